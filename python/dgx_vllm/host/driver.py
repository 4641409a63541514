"""The NVIDIA driver's own libraries: found on the host, and given to vLLM without anything else of the host.

The product's dynamic loader looks neither into the host's library cache nor into its directories
(nix/base/sysroot.nix), so libcuda and what it loads by name have to be found and named. A whole host
directory in LD_LIBRARY_PATH would let the host's libstdc++ and libssl in; a directory of links to the
driver's libraries alone does not.

Which libraries are the driver's: NVIDIA names the files after the driver's version (`libcuda.so.580.95.05`),
all but those below. What CUDA needs of them is what NVIDIA's cuda-compat packages hold
(https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html) and libnvidia-ml.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm.host import caches
from dgx_vllm.util.errors import FAILURE, UserError

VARIABLE = "DGX_VLLM_DRIVER"
"""Names the directory that holds libcuda.so.1, where the search does not find it or finds the wrong one."""

MINIMUM = 580
"""The oldest driver branch for CUDA 13.x
(https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html)."""

UPGRADE = (
    "install a newer one (DGX OS: sudo apt update && sudo apt dist-upgrade; NixOS: hardware.nvidia.package) "
    "and restart"
)
RESTART = "restart the machine: the kernel still has the old driver's module"

_CUDA = "libcuda.so.1"
_NVML = "libnvidia-ml.so.1"

# By the program header's machine field (ELF's gABI): an image may hold both architectures.
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}

_VERSION = re.compile(r"libcuda\.so\.(\d{3,}(?:\.\d+)+)")
_KERNEL_VERSION = re.compile(r"^NVRM version:.*?\s(\d{3,}(?:\.\d+)+)\s", re.MULTILINE)
_OWN = re.compile(r"lib(cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[a-z0-9-]+|dxcore|nvdxgdmal)\.so(\.\d+)*")
_UNVERSIONED = "libnvidia-nvvm70.so.4"
# WSL's libraries carry no version; libnvidia-container, which is not the driver's, may lie next to them.
_WSL = re.compile(
    r"lib(cuda|cudadebugger|nvcuvid|dxcore|nvdxgdmal|nvidia-(ml|nvvm|nvvm70|gpucomp|ptxjitcompiler|tileiras|"
    r"encode|opticalflow))\.so.*"
)


@dataclass(frozen=True)
class Driver:
    """A driver's libraries on this host.

    Args:
        directory: where libcuda.so.1 lies.
        version: such as `580.95.05`, by the library's file name; None where the name holds none (WSL).
        libraries: the file behind every name that one of them may be loaded by.
        chosen: whether `VARIABLE` named the directory.
    """

    directory: Path
    version: str | None
    libraries: Mapping[str, Path]
    chosen: bool = False


def find(environ: Mapping[str, str], root: Path = Path("/"), machine: str | None = None) -> Driver | None:
    """Looks for the driver where DGX OS, NixOS, other distributions, containers and WSL have it.

    Args:
        environ: the environment, for `VARIABLE`.
        root: the directory taken for /.
        machine: the architecture as `uname -m` names it, this process's by default.

    Returns:
        None where no directory holds a libcuda.so.1 of this architecture.

    Raises:
        UserError: `VARIABLE` names a directory without one.
    """
    machine = machine or platform.machine()
    given = environ.get(VARIABLE, "").strip()
    if given:
        directory = Path(given).expanduser()
        if not _is_library(directory / _CUDA, machine):
            raise UserError(
                f"{VARIABLE} is {given}, where there is no {_CUDA} for {machine}; name the directory that "
                "holds the driver's libraries, or unset it"
            )
        return _driver(directory, chosen=True)
    for directory in _directories(root, machine):
        if _is_library(directory / _CUDA, machine):
            return _driver(directory, chosen=False)
    return None


def kernel_version(root: Path = Path("/")) -> str | None:
    """The version of the kernel module that is loaded, None without one (and on WSL)."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    match = _KERNEL_VERSION.search(text)
    return match[1] if match else None


def too_old(version: str) -> bool:
    """Whether a driver of this version cannot run CUDA 13."""
    return int(version.partition(".")[0]) < MINIMUM


def mismatched(driver: Driver, kernel: str | None) -> bool:
    """Whether the libraries are of another version than the kernel module, as after an update without a
    restart.

    A directory that the user named may hold NVIDIA's forward compatibility libraries, which are newer on
    purpose.
    """
    return not driver.chosen and None not in (driver.version, kernel) and driver.version != kernel


def check(driver: Driver | None, root: Path = Path("/")) -> None:
    """Refuses a driver that CUDA 13 cannot run on; no driver at all is for others to judge.

    Raises:
        UserError: it is too old, or half of it was updated.
    """
    kernel = kernel_version(root)
    version = (driver and driver.version) or kernel
    if version and too_old(version):
        raise UserError(
            f"the NVIDIA driver {version} is too old for CUDA 13, which needs {MINIMUM} or later; {UPGRADE}",
            FAILURE,
        )
    if driver and mismatched(driver, kernel):
        raise UserError(
            f"the NVIDIA driver's libraries are {driver.version}, its kernel module is {kernel}; {RESTART}",
            FAILURE,
        )


def place(driver: Driver, environ: Mapping[str, str]) -> Path:
    """Where the links to this driver's libraries belong; another set of files has another place."""
    listing = "\n".join(f"{name} {path}" for name, path in sorted(driver.libraries.items()))
    key = hashlib.sha256(listing.encode()).hexdigest()[:16]
    return caches.vllm(environ) / "driver" / f"{driver.version or 'unversioned'}-{key}"


def variables(driver: Driver, environ: Mapping[str, str]) -> dict[str, str]:
    """What a process needs in its environment to find the driver's libraries once `link` has made the links.

    LD_LIBRARY_PATH is for the loader, TRITON_LIBCUDA_PATH for Triton, which would ask the host's ldconfig
    (triton/backends/nvidia/driver.py, `libcuda_dirs`), LIBRARY_PATH for linking FlashInfer's kernels, which
    ask for -lcuda (flashinfer/jit/cpp_ext.py). What was set stays behind it, and a TRITON_LIBCUDA_PATH stays
    as it is.
    """
    directory = str(place(driver, environ))
    values = {
        name: os.pathsep.join(filter(None, (directory, environ.get(name))))
        for name in ("LD_LIBRARY_PATH", "LIBRARY_PATH")
    }
    return values if environ.get("TRITON_LIBCUDA_PATH") else {**values, "TRITON_LIBCUDA_PATH": directory}


def link(driver: Driver, environ: Mapping[str, str]) -> Path:
    """Makes the directory of links, unless it is there.

    Raises:
        OSError: vLLM's cache cannot be written.
    """
    directory = place(driver, environ)
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=directory.parent, prefix=".making-"))
    try:
        _fill(made, driver)
        made.rename(directory)
    except OSError:
        if not directory.is_dir():  # else another process was faster, with the same links
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)  # interrupted, too; renamed, there is nothing under this name
    return directory


def reaching(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a process finds the driver's libraries; makes the links.

    Returns:
        An unchanged copy if there is no driver.

    Raises:
        OSError: vLLM's cache cannot be written.
        UserError: see `find`.
    """
    driver = find(environ)
    if driver is None:
        return dict(environ)
    link(driver, environ)
    return {**environ, **variables(driver, environ)}


def enter(
    environ: Mapping[str, str], prepared: Callable[[Mapping[str, str]], Mapping[str, str]] = reaching
) -> None:
    """Become the same command where the loader finds the driver's libraries, unless this is such a process.

    The loader reads its path at the start alone.

    Args:
        environ: of this process.
        prepared: makes the other process's of it, as `reaching` does or with more.

    Raises:
        OSError: vLLM's cache cannot be written.
        UserError: see `find`.
    """
    driver = find(environ)
    if driver is None:
        return
    if str(place(driver, environ)) not in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], prepared(environ))


def _fill(directory: Path, driver: Driver) -> None:
    for name, path in driver.libraries.items():
        (directory / name).symlink_to(path)
    if "libcuda.so" not in driver.libraries:  # some packages leave the linker's name to a development package
        (directory / "libcuda.so").symlink_to(_CUDA)


def nvml(vllm: Path, driver: Driver | None) -> Any:
    """The NVML binding that vLLM carries, with the driver's library loaded for it.

    Args:
        vllm: the directory of vLLM's package. Its pynvml is loaded on its own: its package would import
            torch.
        driver: where the library is; without one the loader's own search decides.

    Returns:
        The module, None if vLLM has none. Its nvmlInit fails where no library loads.
    """
    if driver and _NVML in driver.libraries:
        try:
            # The binding asks for the bare name, and the loader answers with a library that is loaded under
            # it.
            ctypes.CDLL(str(driver.libraries[_NVML]))
        except OSError:
            return _binding(vllm / "third_party" / "pynvml.py")
    return _binding(vllm / "third_party" / "pynvml.py")


@functools.cache
def _binding(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("dgx_vllm_pynvml", path)
    if not path.is_file() or spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # it looks itself up while it loads
    spec.loader.exec_module(module)
    return module


def _directories(root: Path, machine: str) -> Iterator[Path]:
    """Where a driver may be, first come first served."""
    yield root / "run/opengl-driver/lib"  # NixOS
    yield (
        root / f"usr/lib/{machine}-linux-gnu"
    )  # Debian, Ubuntu, DGX OS; what the container toolkit mounts there
    yield root / "usr/lib64"  # Fedora, SUSE; what the container toolkit mounts elsewhere
    yield root / "usr/local/nvidia/lib64"  # older container runtimes, Kubernetes
    yield root / "usr/lib/wsl/lib"
    yield root / "usr/lib"  # Arch
    # The container toolkit names directories of its own here; so do people.
    for path in sorted((root / "etc/ld.so.conf.d").glob("*.conf")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip().startswith("/"):
                yield root / line.strip().lstrip("/")


def _is_library(path: Path, machine: str) -> bool:
    """Whether it is a 64-bit ELF file for the architecture."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head[:5] == b"\x7fELF\x02" and int.from_bytes(head[18:20], "little") == _ELF_MACHINE.get(machine)


def _driver(directory: Path, chosen: bool) -> Driver:
    named = _VERSION.fullmatch((directory / _CUDA).resolve().name)
    version = named[1] if named else None
    libraries = {
        path.name: path.resolve()
        for path in sorted(directory.iterdir())
        if _belongs(path.name, path.resolve().name, version) and path.exists()
    }
    return Driver(directory, version, libraries, chosen)


def _belongs(name: str, file: str, version: str | None) -> bool:
    if version is None:
        return _WSL.fullmatch(name) is not None
    if name == _UNVERSIONED:
        return True
    return _OWN.fullmatch(name) is not None and file.endswith(f".so.{version}")
