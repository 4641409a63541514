"""The image under a real OCI runtime: no privilege, a user of its own, a root that cannot be written."""

import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from container import Container, configure, run

from helpers.processes import PATIENCE

pytestmark = pytest.mark.container


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _output(bundle: Path, state: Path, log: Path, arguments: list[str]) -> tuple[int, str]:
    configure(bundle, arguments, {})
    container = run("mode", bundle, state, log)
    return container.process.wait(PATIENCE), log.read_text()


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, str, Path]]:
    """A container in its default mode, healthy."""
    directory = tmp_path_factory.mktemp("server")
    log, port = directory / "log", _free_port()
    configure(
        bundle,
        ["serve"],
        {"PORT": str(port), "HOST": "127.0.0.1", "VLLM_EXTRA_ARGS": "--shutdown-timeout 600"},
    )
    container = run("server", bundle, directory / "state", log)
    deadline = time.monotonic() + 6 * PATIENCE
    while (health := container.execute("/bin/entrypoint", "health")).returncode:
        assert container.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, health.stderr + log.read_text()
        time.sleep(1)
    yield container, f"http://127.0.0.1:{port}", log
    container.kill()


def test_a_healthy_container_answers_a_chat(server: tuple[Container, str, Path]) -> None:
    _, url, _ = server
    model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Count to 5."}], "temperature": 0}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE).raise_for_status().json()
    assert "1 2 3 4 5" in answer["choices"][0]["message"]["content"]


def test_it_is_not_root_and_cannot_write_its_root(server: tuple[Container, str, Path]) -> None:
    container, _, _ = server
    shell = container.execute("/bin/bash", "-c", "id --user; touch /written /bin/written")
    assert shell.stdout.split() == ["1000"]
    assert shell.stderr.count("Read-only file system") == 2


def test_a_stopped_container_ends_with_status_0(server: tuple[Container, str, Path]) -> None:
    container, url, log = server
    assert container.stop() == 0, log.read_text()[-2000:]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_mode_that_does_not_exist_is_one_line(bundle: Path, tmp_path: Path) -> None:
    status, text = _output(bundle, tmp_path / "state", tmp_path / "log", ["sevre"])
    assert status == 2
    assert text.startswith('error: there is no mode "sevre": serve')
    assert text.count("\n") == 1


def test_a_worker_without_its_head_is_one_line(bundle: Path, tmp_path: Path) -> None:
    status, text = _output(bundle, tmp_path / "state", tmp_path / "log", ["ray-worker"])
    assert status == 2
    assert text.startswith("error: ray-worker: HEAD_IP is not set")
    assert text.count("\n") == 1


def test_bash_runs_what_it_is_given(bundle: Path, tmp_path: Path) -> None:
    status, text = _output(bundle, tmp_path / "state", tmp_path / "log", ["bash", "-c", "echo $((6 * 7))"])
    assert (status, text) == (0, "42\n")


def test_any_user_may_write_where_it_writes(bundle: Path) -> None:
    modes = {name: stat.S_IMODE((bundle / "rootfs" / name).stat().st_mode) for name in ("tmp", "cache")}
    assert modes == {"tmp": 0o1777, "cache": 0o1777}


def test_an_image_unpacks_without_privilege(bundle: Path) -> None:
    assert (bundle / "rootfs/bin/dgx-vllm").is_symlink()
    command = ["find", str(bundle / "rootfs"), "-perm", "/6000"]
    setuid = subprocess.run(command, check=True, capture_output=True)
    assert setuid.stdout == b""
