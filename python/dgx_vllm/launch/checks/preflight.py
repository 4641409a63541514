"""Preflight: what only the machine can tell, asked before vLLM takes a minute to find out."""

import contextlib
import errno
import importlib.util
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints import file_formats
from dgx_vllm.host import caches, disk_space, driver
from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.hub.cache_folder import Storage
from dgx_vllm.launch.checks import address_hold, certificates, descriptors, needed_models
from dgx_vllm.launch.checks.address_hold import Hold
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings.ranking import Setting, Source
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.util.errors import FAILURE, UserError

# Room for what torch.compile, Triton and FlashInfer cache, with a margin: without it they fail in mid-start.
CACHE_BYTES = GIB // 2
_MOMENT_SECONDS = 0.1

#: What somebody who leaves out the command's own name gives as the model.
COMMANDS = (
    "bench-decode",
    "bench-kernels",
    "calibrate",
    "chat",
    "check-config",
    "check-environment",
    "doctor",
    "download",
    "eval",
    "eval-prune",
    "exec",
    "health",
    "help",
    "install-service",
    "list",
    "logs",
    "plan",
    "profiles",
    "prune",
    "ps",
    "rm",
    "serve",
    "status",
    "stop",
    "version",
)


def check_start(launch: Launch, machine: Machine, environ: Mapping[str, str]) -> Hold:
    """Refuses to start where starting must fail: certificates, an address in use, `check_engine`.

    Returns:
        What keeps the address until the server has ended: it listens only once its engine is loaded.
    """
    certificates.check(launch)
    hold = _hold(launch)
    try:
        check_engine(launch, machine, environ)
    except UserError:
        hold.release()
        raise
    return hold


def _hold(launch: Launch) -> Hold:
    path, headless = launch.text("uds"), launch.settings.get("headless")
    if path:
        return address_hold.path(path)
    if headless and headless.value:
        return Hold()  # its clients come to another machine
    with address_hold.checking(launch.port):
        address = check_port(launch.host, launch.port)
        return address_hold.port(address, launch.port)


def check_engine(launch: Launch, machine: Machine, environ: Mapping[str, str]) -> None:
    """Refuses an engine that cannot start: no GPU for a CUDA build, no memory, no room on disk."""
    if machine.platform == "cuda":
        driver.check(machine.driver)
    if machine.platform == "cuda" and not machine.gpus:
        raise UserError(
            "this vLLM is built for CUDA and no NVIDIA GPU is visible (libnvidia-ml did not load, "
            "/proc/driver/nvidia is empty); install the driver, or run the CPU build",
            FAILURE,
        )
    if launch.refusal:
        raise UserError(launch.refusal, FAILURE)
    _check_loader(launch.settings.get("load-format"))
    descriptors.ensure()
    check_disk(launch, environ)


def _check_loader(setting: Setting | None) -> None:
    """Refuses a load format whose reader is not installed: vLLM finds out once all else is done.

    A profile's is part of what it was made for.
    """
    load_format = setting.text.lower() if setting and setting.source > Source.PROFILE else ""
    package = file_formats.PACKAGES.get(load_format)
    if setting and package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"{setting.origin} {setting.text} needs the Python package {package}, which this environment "
            "lacks; leave it out",
            FAILURE,
        )


def check_host(host: str, port: int = 0) -> tuple[Any, ...]:
    """The socket and the address that a host stands for, as getaddrinfo gives them.

    Raises:
        UserError: it stands for none.
    """
    try:
        # Of an empty host vLLM makes every address, and of a name one of IPv4.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind, passive = socket.SOCK_STREAM, socket.AI_PASSIVE
        return socket.getaddrinfo(host or "0.0.0.0", port, family, kind, flags=passive)[0]
    except socket.gaierror as error:
        raise UserError(
            f"the host {host!r} does not resolve ({error.strerror}); give an address of this machine"
        ) from error


def check_port(host: str, port: int) -> str:
    """Binds the address for a moment, as vLLM will, and asks whether a server that loads has it.

    Returns:
        The address in numbers.

    Raises:
        UserError: no server could listen there.
    """
    family, kind, protocol, _, address = check_host(host, port)
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise UserError(_bind_fault(host, port, error), FAILURE) from error
    numbers: str = address[0]
    # Whoever binds a port for a moment, as this does, has let go of it by the second time.
    if address_hold.holder(numbers, port):
        time.sleep(_MOMENT_SECONDS)
        holder = address_hold.holder(numbers, port)
        if holder:
            raise UserError(
                f"port {port} on {host} is held by {holder}; {_choose(host, numbers, port)}", FAILURE
            )
    return numbers


def _choose(host: str, address: str, port: int) -> str:
    free = _free_port(host, address, port)
    return "choose another with --port or PORT" + (f", such as --port {free}" if free else "")


def _bind_fault(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; {_choose(host, check_host(host)[4][0], port)}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges; choose one from 1024 on with --port or PORT"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for every interface"
    return f"cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port"


def _free_port(host: str, address: str, port: int) -> int | None:
    for candidate in range(port + 1, min(port + 20, 65536)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, candidate))
            probe.close()
            if not address_hold.holder(address, candidate):
                return candidate
    return None


def check_disk(launch: Launch, environ: Mapping[str, str]) -> None:
    """Refuses to start where caches or a download would not fit, or could not be written."""
    disk_space.check(caches.vllm(launch.environ(environ)), CACHE_BYTES, "vLLM's cache", "VLLM_CACHE_ROOT")
    where = launch.text("download-dir")
    target = Path(where).expanduser() if where else caches.hub(environ)
    missing = 0
    tasks = []
    for model in needed_models.repositories(launch):
        if not where and needed_models.is_here(model, environ):
            continue
        begun = Storage(target, model.name).size
        missing += max(_download_bytes(launch, model.name) - begun, 0)
        tasks.append(f"the rest of {model.name}" if begun else f"downloading {model.name}")
    if tasks:
        place = "--download-dir" if where else "HF_HOME"
        disk_space.check(target, missing, " and ".join(tasks), place)


def _download_bytes(launch: Launch, model: str) -> int:
    """What a model takes on the disk, as far as that is known before the hub is asked."""
    if launch.profile and model == launch.profile.model:
        return launch.profile.weight_bytes or GIB
    sizes = model_sizes.by_model(model)
    # Of an unknown one, ask for what the smallest useful model takes.
    return (sizes.published_bytes or sizes.bytes) if sizes else GIB
