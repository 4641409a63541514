"""The units under a real systemd: what docs/guides/service.md promises, row by row.

The system is Debian 12's (systemd 252) in namespaces of its own; `nix run .#integration` sets what it asks of
the environment.
What is measured is reported, and held only against bounds that say something is broken.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from system import System, booted

from dgx_vllm.demo import CHECKPOINT
from helpers.fakehub import MODEL, Behaviour, Hub, serving
from helpers.processes import PATIENCE

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif("DGX_VLLM_SYSTEM" not in os.environ, reason="DGX_VLLM_SYSTEM names no system to boot"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a systemd of its own needs root"),
]

KEY, TOKEN, WRONG_KEY = "key-4f1d0c", "hf_9b27aa", "wrong-77e3"
WATCHDOG_SECONDS = 10
START_SECONDS = 1800
PROMPT = {"prompt": "1 2 3 4", "max_tokens": 4, "temperature": 0}


@dataclass(frozen=True)
class Service:
    """An installed instance."""

    system: System
    name: str
    port: int

    @property
    def unit(self) -> str:
        return f"dgx-vllm-{self.name}.service"

    def state(self) -> str:
        return self.system.show(self.unit, "ActiveState")

    def has_given_up(self) -> bool:
        """Between two attempts a unit is `failed` for a moment, too."""
        if self.state() != "failed":
            return False
        time.sleep(1)
        return self.state() == "failed"

    def restarts(self) -> int:
        return int(self.system.show(self.unit, "NRestarts"))

    def complete(self, key: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"http://127.0.0.1:{self.port}/v1"
        models = httpx.get(f"{url}/models", headers=headers)
        if models.status_code != 200:
            return models
        body = {**PROMPT, "model": models.json()["data"][0]["id"]}
        return httpx.post(f"{url}/completions", headers=headers, json=body, timeout=PATIENCE)

    def process(self, role: str) -> psutil.Process:
        """The launcher, the API server or the engine."""
        processes = self.system.processes(self.unit)
        launcher = next(each for each in processes.values() if each.ppid() == self.system.manager)
        api = next(each for each in processes.values() if each.ppid() == launcher.pid)
        engine = next(
            each
            for each in processes.values()
            if each.ppid() == api.pid and re.search("EngineCore|spawn_main", " ".join(each.cmdline()))
        )
        return {"launcher": launcher, "API server": api, "engine": engine}[role]


def until(condition: Callable[[], object], seconds: float, what: Callable[[], str]) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not after {seconds} s: {what()}"
        time.sleep(0.1)
    return time.monotonic() - began


def until_active(service: Service) -> float:
    """The seconds that it took; a unit that has given up never will be."""

    def journal() -> str:
        return service.system.journal(service.unit)

    took = until(lambda: service.state() == "active" or service.has_given_up(), START_SECONDS, journal)
    assert service.state() == "active", journal()
    return took


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install(system: System, name: str, *words: str, port: int | None = None) -> Service:
    port = port or free_port()
    options = ["--name", name, "--port", str(port), *words]
    system.run(os.environ["DGX_VLLM"], "install-service", *options)
    return Service(system, name, port)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with booted(tmp_path_factory.mktemp("system")) as found:
        for name, secret in (("key", KEY), ("token", TOKEN)):
            path = found.root / "etc" / name
            path.write_text(f"{secret}\n")
            path.chmod(0o600)
        yield found


@pytest.fixture(scope="module")
def files(system: System) -> set[str]:
    """Before anything was installed."""
    return system.files()


@pytest.fixture(scope="module")
def service(system: System, files: set[str]) -> Service:
    secrets = ["--api-key-file", "/etc/key", "--hf-token-file", "/etc/token"]
    return install(system, "main", *secrets, "--watchdog", str(WATCHDOG_SECONDS))


def test_active_means_that_a_token_was_produced(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    record_property("seconds until active", f"{until_active(service):.0f}")
    answer = service.complete(KEY)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] > 0
    ready = json.loads((service.system.root / "run/dgx-vllm-main/ready.json").read_text())
    assert ready["url"].endswith(f":{service.port}")


def test_the_command_finds_the_service(service: Service) -> None:
    until_active(service)
    command = os.environ["DGX_VLLM"]
    (found,) = json.loads(service.system.output(command, "status", service.name, "--json"))
    assert (found["kind"], found["state"], found["unit"]) == ("system", "ready", service.unit)
    assert found["url"].endswith(f":{service.port}")
    assert found["pid"] == int(service.system.show(service.unit, "MainPID"))
    assert found["health"]["healthy"] is True
    listed = json.loads(service.system.output(command, "ps", "--json"))
    assert service.name in [each["name"] for each in listed]
    assert service.system.output(command, "logs", service.name, "--lines=5").strip()
    question = [command, "chat", service.name, "--api-key-file", "/etc/key", "--prompt", "1 2 3 4"]
    assert service.system.output(*question, "--max-tokens", "4").strip()


def test_only_the_key_opens(service: Service) -> None:
    until_active(service)
    assert service.complete().status_code == 401
    assert service.complete(WRONG_KEY).status_code == 401


def test_no_secret_is_to_be_read(service: Service) -> None:
    """Not of the manager, in the journal, in a command line or in an environment but vLLM's own."""
    until_active(service)
    system = service.system
    said = {
        "systemctl show": system.run("systemctl", "show", service.unit),
        "systemctl cat": system.run("systemctl", "cat", service.unit),
        "the journal": system.run("journalctl", "--no-pager", "--output=verbose"),
    }
    allowed = {service.process("API server").pid}
    allowed |= {each.pid for each in service.process("API server").children(recursive=True)}
    everyone = [psutil.Process(system.manager), *psutil.Process(system.manager).children(recursive=True)]
    for each in everyone:
        said[f"argv of {each.pid}"] = " ".join(each.cmdline())
        if each.pid not in allowed:
            said[f"environment of {each.pid}"] = json.dumps(each.environ())
    assert len(said) > len(allowed) + 3
    assert [
        (place, secret) for place in said for secret in (KEY, TOKEN, WRONG_KEY) if secret in said[place]
    ] == []
    # The test can fail: vLLM reads the key from its environment.
    assert KEY in json.dumps(service.process("API server").environ())


@pytest.mark.parametrize(
    ("role", "number"),
    [*itertools.product(("engine", "API server", "launcher"), (signal.SIGKILL, signal.SIGSTOP))],
)
def test_a_killed_service_comes_back(
    service: Service,
    role: str,
    number: signal.Signals,
    record_property: Callable[[str, object], None],
) -> None:
    until_active(service)
    before = service.restarts()
    left = service.system.processes(service.unit)
    os.kill(service.process(role).pid, number)
    ended = until(lambda: service.state() != "active", PATIENCE, service.state)
    until(lambda: service.restarts() > before, PATIENCE, service.state)
    assert [each for each in left.values() if each.is_running() and each.status() != "zombie"] == []
    back = until_active(service)
    assert service.restarts() == before + 1
    assert service.complete(KEY).status_code == 200
    record_property("noticed after, answering again after", f"{ended:.1f} s, {ended + back:.0f} s")


def test_the_sandbox_is_as_thin_as_documented(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    said = service.system.run("systemd-analyze", "security", "--no-pager", service.unit)
    found = re.search(r"exposure level for \S+: (\d+\.\d)", said)
    assert found, said
    record_property("exposure, of 10", found[1])
    assert float(found[1]) <= 2.0


def test_removal_leaves_no_trace(service: Service, files: set[str]) -> None:
    system = service.system
    assert system.files() > files
    system.run(os.environ["DGX_VLLM"], "install-service", "--name", service.name, "--remove")
    assert system.files() == files
    assert "0 unit files listed" in system.run("systemctl", "list-unit-files", "dgx-vllm-*", check=False)
    assert system.processes(service.unit) == {}


class Driver:
    """What NixOS's test driver gives the VM test's script, for this system."""

    def __init__(self, system: System) -> None:
        self._system = system

    def succeed(self, command: str) -> str:
        return self._system.run("bash", "-euo", "pipefail", "-c", command)

    def fail(self, command: str) -> None:
        with pytest.raises(AssertionError):
            self.succeed(command)

    def wait_for_unit(self, unit: str) -> None:
        until(lambda: self._system.show(unit, "ActiveState") == "active", START_SECONDS, lambda: unit)

    def wait_until_succeeds(self, command: str) -> None:
        def succeeds() -> bool:
            try:
                self.succeed(command)
            except AssertionError:
                return False
            return True

        until(succeeds, START_SECONDS, lambda: command)


def test_what_the_nixos_machine_is_asked(system: System) -> None:
    """nix/service/vm-test.py, with the unit that install-service makes of the same settings."""
    (system.root / "root/key").touch(0o600)
    install(system, "main", "--api-key-file", "/root/key", port=8888)
    system.run("systemctl", "stop", "dgx-vllm-main.service")

    def subtest(_: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    script = Path(os.environ["DGX_VLLM_VM_TEST"])
    exec(compile(script.read_text(), script, "exec"), {"machine": Driver(system), "subtest": subtest})
    system.run(os.environ["DGX_VLLM"], "install-service", "--name", "main", "--remove")


def test_a_model_is_downloaded_before_it_is_served(
    system: System, record_property: Callable[[str, object], None]
) -> None:
    """The hub breaks off in the middle of the weights, once; the server starts when they are whole."""
    hub = Hub({path.name: path.read_bytes() for path in CHECKPOINT.iterdir() if path.is_file()})
    hub.fails("model.safetensors", Behaviour(sent=1_000_000))
    with serving(hub) as url:
        (system.root / "etc/hub").write_text(f"HF_ENDPOINT={url}\n")
        service = install(system, "hub", MODEL, "--profile", "demo", "--environment-file", "/etc/hub")
        record_property("seconds until active", f"{until_active(service):.0f}")
        assert service.complete().status_code == 200
        starts = [request.start for request in hub.asked("model.safetensors")]
        assert starts == [0, 1_000_000]
        download = system.journal("dgx-vllm-hub-download.service")
        assert "is here: " in download
    system.run(os.environ["DGX_VLLM"], "install-service", "--name", "hub", "--remove")


def test_installing_again_runs_what_was_installed(system: System) -> None:
    service = install(system, "again")
    until_active(service)
    before = service.process("launcher")
    install(system, "again", port=service.port)
    until(lambda: not before.is_running(), PATIENCE, service.state)
    until_active(service)
    assert service.process("launcher").pid != before.pid
    assert service.complete().status_code == 200
    system.run(os.environ["DGX_VLLM"], "install-service", "--name", "again", "--remove")


def test_a_server_that_cannot_start_stops_trying(
    system: System, record_property: Callable[[str, object], None]
) -> None:
    """A file that becomes bad after the installation, which would refuse it."""
    (system.root / "etc/broken").touch()
    service = install(system, "broken", "--environment-file", "/etc/broken")
    system.run("systemctl", "stop", service.unit)
    (system.root / "etc/broken").write_text("VLLM_NVFP4_GEMM_BACKEND=marlin\n")
    system.run("systemctl", "reset-failed", service.unit)  # so that the first start does not count
    system.run("systemctl", "start", "--no-block", service.unit)
    took = until(service.has_given_up, PATIENCE, lambda: system.journal(service.unit))
    record_property("seconds until it gave up", f"{took:.0f}")
    said = system.journal(service.unit)
    assert said.count("would ignore VLLM_NVFP4_GEMM_BACKEND") == 8, said
    assert "Start request repeated too quickly" in said
    system.run(os.environ["DGX_VLLM"], "install-service", "--name", "broken", "--remove")
