"""A server's life under the launcher: ready, told to stop, dead. The server is a stand-in."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgx_vllm.launch.process.server import GRACE_SECONDS
from dgx_vllm.launch.settings.sources import SHUTDOWN_SECONDS
from helpers.launching import COMMAND, Start, free_port
from helpers.processes import PATIENCE, await_end, until

# --- ready ----------------------------------------------------------------------------------------------


def test_ready_means_a_token(start: Start) -> None:
    """/health answers at once here; only the completion makes the server ready."""
    server = start(token_after=1.0)
    server.await_ready()
    assert server.ready_file.stat().st_mtime >= server.recorded("token.json")
    assert json.loads(server.ready_file.read_text()) == {
        "url": server.url,
        "model": "fake",
        "pid": server.process.pid,
        "server": server.recorded("environ.json")["DGX_VLLM_SERVER"],
    }
    outcome = server.end(signal.SIGTERM)
    assert outcome.status == 0
    assert f"fake at {server.url}/v1" in outcome.out
    assert re.search(r"ready after \d+ s, first token in \d+\.\d\d s", outcome.out)
    assert not server.ready_file.exists()


def test_not_ready_while_unhealthy(start: Start, tmp_path: Path) -> None:
    healthy = tmp_path / "healthy"
    server = start(healthy_by=str(healthy))
    server.await_file(server.record / "argv.json")
    time.sleep(0.7)
    assert not server.ready_file.exists()
    healthy.touch()
    server.await_ready()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("key", [None, "k3y"])
@pytest.mark.parametrize("in_file", [True, False])
def test_the_printed_curl_line_works(
    start: Start, tmp_path: Path, chat: bool, key: str | None, in_file: bool
) -> None:
    """The shell has the key's variable only where the server got it so."""
    environ = {"VLLM_API_KEY": key} if key and not in_file else {}
    file = tmp_path / "the key"
    file.write_text(f"{key}\n")
    words = ["--api-key-file", str(file)] if key and in_file else []
    server = start(*words, environ=environ, chat=chat, key=key)
    server.await_ready()
    assert server.process.stdout is not None
    line = ""
    while "try it: " not in line:
        line = server.process.stdout.readline()
    done = subprocess.run(
        ["sh", "-c", line.split("try it: ")[1]],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    path = "/v1/chat/completions" if chat else "/v1/completions"
    assert json.loads(done.stdout)["choices"][0]["text"] == f"48 tokens from {path}"
    assert key is None or key not in line


def test_a_model_without_text_is_ready_by_health_alone(start: Start) -> None:
    server = start(text=False)
    server.await_ready()
    assert "no completion endpoint; ready only means that /health answers" in server.end(signal.SIGTERM).out


def test_a_server_on_a_unix_socket_gets_ready_and_ends(start: Start, tmp_path: Path) -> None:
    # A socket's path may have 107 characters; pytest's directories may take more than that.
    path = Path(os.path.relpath(tmp_path / "s", tmp_path))
    server = start("--uds", str(path))
    server.await_ready()
    outcome = server.end(signal.SIGTERM)
    assert "fake at the socket s" in outcome.out
    assert "--unix-socket s" in outcome.out


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "localhost"])
def test_a_servers_url_is_one_that_clients_reach(start: Start, host: str) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    server = start("--host", host)
    server.await_ready()
    shown = {"0.0.0.0": "127.0.0.1", "::1": "[::1]"}.get(host, host)
    assert json.loads(server.ready_file.read_text())["url"] == f"http://{shown}:{server.port}"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


@pytest.mark.parametrize("behind", [None, "s"])
def test_systemd_is_told(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str | None
) -> None:
    """Where it answers: at its socket, if it has one."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("notify")
        systemd.settimeout(PATIENCE)
        server = start(*(("--uds", behind) if behind else ()), environ={"NOTIFY_SOCKET": "notify"})
        assert systemd.recv(4096).decode() == f"READY=1\nSTATUS=serving fake at {behind or server.url}"
        assert "NOTIFY_SOCKET" not in server.recorded("environ.json")
        server.end(signal.SIGTERM)
        assert systemd.recv(4096) == b"STOPPING=1"


def test_a_stale_ready_file_is_removed_first(start: Start) -> None:
    server = start(health_after=60)
    server.await_file(server.record / "argv.json")
    server.ready_file.write_text("stale")
    server.end(signal.SIGTERM)
    assert not server.ready_file.exists()


# --- the process ----------------------------------------------------------------------------------------


def test_the_server_gets_the_planned_command(start: Start, checkpoint: Path) -> None:
    server = start("--max-num-seqs", "3", environ={"HOST": "127.0.0.1"})
    server.await_ready()
    argv = server.recorded("argv.json")
    assert argv[1:6] == ["-P", "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint)]
    assert argv[argv.index("--max-num-seqs") + 1] == "3"
    assert server.recorded("environ.json")["VLLM_NO_USAGE_STATS"] == "1"


def test_the_server_has_a_process_group_of_its_own(start: Start) -> None:
    server = start(child=True)
    server.await_ready()
    pid = _child_of(server.process.pid)
    assert os.getpgid(pid) == pid
    assert os.getpgid(server.process.pid) != pid


def _child_of(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


# --- signals --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What the tests ignore, under nohup or in the background, the launcher would ignore as well."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 0), (signal.SIGQUIT, 0)],
)
@pytest.mark.parametrize("ready", [True, False], ids=["ready", "starting"])
def test_a_signal_stops_the_server_and_its_children(
    start: Start, number: signal.Signals, status: int, ready: bool
) -> None:
    server = start(child=True, health_after=0 if ready else 60)
    server.await_file(server.record / "child.json")
    if ready:
        server.await_ready()
    pid = _child_of(server.process.pid)
    outcome = server.end(number)
    assert outcome.status == status
    assert "Traceback" not in outcome.err
    # Also what outlives the server, as an engine may, is ended.
    await_end(pid)
    await_end(server.recorded("child.json"))
    assert not server.ready_file.exists()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_a_hang_up_that_comes_second_kills_nothing(start: Start, first: signal.Signals) -> None:
    """A closed terminal sends it, its shell once more, and a log-out beside SIGTERM."""
    server = start("--shutdown-timeout", "10", drain=1)
    server.await_ready()
    for number in (first, signal.SIGHUP):
        server.process.send_signal(number)
        time.sleep(0.2)
    assert server.end().status == 0
    assert (server.record / "drained.json").exists()


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "starting"])
def test_a_terminal_that_closes_stops_it(
    fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path, ready: bool
) -> None:
    """Whatever it has still to say, nobody can be told."""
    behaviour = {"child": True, "health_after": 0 if ready else 3600}
    environ = {**fake_environment, "FAKE_VLLM": json.dumps(behaviour), "FAKE_VLLM_RECORD": str(tmp_path)}
    ready_file, child = tmp_path / "ready.json", tmp_path / "child.json"
    words = [*COMMAND, "serve", str(checkpoint), "--port", str(free_port()), "--ready-file", str(ready_file)]
    terminal, end = pty.openpty()
    launcher = subprocess.Popen(
        words,
        env=environ,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(end)
    _read(terminal, ready_file if ready else child)
    os.close(terminal)
    assert launcher.wait(PATIENCE) == 0
    assert not ready_file.exists()
    await_end(int(child.read_text()))


def _read(terminal: int, file: Path) -> None:
    """Reads what a terminal shows until a file is there."""

    def there() -> bool:
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 65536)
        return file.exists()

    until(there, f"{file.name} did not appear")


def test_nohup_outlives_its_terminal(start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = start()
    finally:
        signal.signal(signal.SIGHUP, before)
    server.await_ready()
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert server.process.poll() is None
    assert server.end(signal.SIGTERM).status == 0


def test_a_deaf_server_is_killed(start: Start) -> None:
    server = start(deaf=True)
    server.await_ready()
    pid = _child_of(server.process.pid)
    began = time.monotonic()
    assert server.end(signal.SIGTERM).status == 137
    assert time.monotonic() - began > 5
    await_end(pid)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_deaf_while_it_loads_is_ended_without_waiting(
    start: Start, number: signal.Signals, status: int
) -> None:
    """It has no answers to finish, so that --shutdown-timeout does not count; and nothing was cut off."""
    server = start("--shutdown-timeout", "3600", deaf=True, health_after=3600)
    server.await_file(server.record / "argv.json")
    pid = _child_of(server.process.pid)
    ended = server.end(number)
    assert ended.status == status
    assert "stopped before the server was ready" in ended.err
    await_end(pid)


def test_the_grace_period_is_shorter_than_dockers() -> None:
    """`docker stop` kills after 10 s: the launcher must have ended its engine by then."""
    assert GRACE_SECONDS + int(SHUTDOWN_SECONDS) < 10


def test_running_answers_have_their_time_by_default(start: Start) -> None:
    server = start()
    server.await_ready()
    argv = server.recorded("argv.json")
    assert argv[argv.index("--shutdown-timeout") + 1] == SHUTDOWN_SECONDS
    assert server.end(signal.SIGTERM).status == 0


def test_a_second_signal_kills_at_once(start: Start) -> None:
    server = start("--shutdown-timeout", "3600", deaf=True)
    server.await_ready()
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert server.end(signal.SIGINT).status == 137


def test_the_server_does_not_outlive_a_killed_launcher(start: Start) -> None:
    server = start()
    server.await_ready()
    pid = _child_of(server.process.pid)
    server.process.kill()
    await_end(pid)


# --- death ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ({"exit_status": 0}, 1),  # vllm#48966: an engine's death may look like success
        ({"exit_status": 7}, 7),
        ({"exit_signal": signal.SIGKILL}, 137),
        ({"exit_signal": signal.SIGSEGV}, 139),
    ],
    ids=str,
)
@pytest.mark.parametrize("ready", [True, False], ids=["ready", "starting"])
def test_a_server_that_dies_ends_the_launcher_with_its_status(
    start: Start, behaviour: dict[str, int], status: int, ready: bool
) -> None:
    server = start(exit_after=3.0 if ready else 0.2, health_after=0 if ready else 60, child=True, **behaviour)
    if ready:
        server.await_ready()
    outcome = server.end()
    assert outcome.status == status
    assert "Traceback" not in outcome.err
    assert re.search(r"dgx-vllm: the server ended by itself", outcome.err)
    await_end(server.recorded("child.json"))
    assert not server.ready_file.exists()


def test_the_last_line_says_why(start: Start) -> None:
    """Whatever the server wrote comes through; the launcher's own line stands below it."""
    wall = "Traceback (most recent call last):\n" + '  File "x.py", line 1, in f\n' * 300
    server = start(exit_after=0.2, health_after=60, exit_status=1, last_words=f"{wall}ValueError: no room\n")
    outcome = server.end()
    assert outcome.status == 1
    assert wall in outcome.err
    last = "dgx-vllm: the server ended by itself with status 1: ValueError: no room; its log above says more"
    assert outcome.err.splitlines()[-1] == last
    assert "one line of log" in outcome.out


def test_a_launcher_that_is_killed_while_waiting_leaves_no_partial_file(start: Start) -> None:
    server = start(token_after=30)
    server.await_file(server.record / "argv.json")
    server.end(signal.SIGTERM)
    assert sorted(path.name for path in server.record.iterdir() if "ready" in path.name) == []


# --- suggestions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "fits"),
    [
        ("NVIDIA GB10", None),  # its memory is the host's
        ("NVIDIA H200:150000000000", True),
        ("NVIDIA L4:24000000000", False),
    ],
)
def test_no_model_on_a_gpu_prints_what_fits(
    start: Start, fake_environment: dict[str, str], gpus: str, fits: bool | None, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    record.mkdir()
    metadata = next((tmp_path / "site").iterdir()) / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    environ = {
        **fake_environment,
        "FAKE_GPUS": gpus,
        "FAKE_VLLM": json.dumps({"exit_after": 0.1, "exit_status": 3}),
    }
    done = subprocess.run(
        [*COMMAND, "serve", "--port", str(free_port())],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3, done.stderr
    command = "dgx-vllm serve nvidia/Qwen3.6-35B-A3B-NVFP4"
    assert "serving the built-in demo" in done.stderr
    if fits is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        fits = memory >= 40 * 2**30
    assert (command in done.stderr) is fits
