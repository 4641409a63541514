"""One address, one server: the second one is told at once, whatever the first one's loading takes."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgx_vllm.launch.checks import address_hold, preflight
from dgx_vllm.util.errors import UserError
from helpers.launching import COMMAND, Start, complete, free_port
from helpers.processes import await_end

SECONDS = 300


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


# --- servers


@pytest.mark.parametrize("when", ["first word", "bound", "ready"])
def test_a_second_server_on_one_port_is_refused_at_once(
    start: Start, fake_environment: dict[str, str], checkpoint: Path, when: str
) -> None:
    first = start(listen_after=0 if when == "ready" else 600)
    if when == "ready":
        first.await_ready()
    else:
        first.await_file(first.record / ("argv.json" if when == "first word" else "bound.json"))
    second = complete(["serve", str(checkpoint), "--port", str(first.port)], fake_environment)
    assert second.status == 1
    assert second.err.count("\n") == 1
    assert re.search(rf"port {first.port} on 127\.0\.0\.1 is (held by another dgx-vllm|in use)", second.err)
    assert "choose another with --port or PORT, such as --port" in second.err
    if when != "ready":
        assert f"(process {first.process.pid})" in second.err
    assert first.process.poll() is None


def test_of_two_that_start_at_once_one_is_refused(
    fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    port = free_port()
    environ = {**fake_environment, "FAKE_VLLM": '{"listen_after": 600}', "FAKE_VLLM_RECORD": str(tmp_path)}
    command = [*COMMAND, "serve", str(checkpoint), "--port", str(port)]
    both = [
        subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    end = time.monotonic() + SECONDS
    while all(each.poll() is None for each in both):
        assert time.monotonic() < end
        time.sleep(0.05)
    ended, other = sorted(both, key=lambda each: each.poll() is None)
    assert ended.returncode == 1
    assert f"port {port} on 127.0.0.1 is held by another dgx-vllm" in ended.communicate()[1]
    while not (tmp_path / "bound.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert other.poll() is None
    other.terminate()
    other.communicate(timeout=SECONDS)


def test_the_next_server_has_the_port_once_the_first_has_ended(start: Start) -> None:
    """Connections to the first one are still remembered by the kernel then."""
    first = start()
    first.await_ready()
    with socket.create_connection(("127.0.0.1", first.port)):
        assert first.end(signal.SIGTERM).status == 0
    second = start("--port", str(first.port))
    second.await_ready()


def test_a_killed_launcher_holds_nothing(start: Start) -> None:
    first = start(listen_after=600)
    first.await_file(first.record / "bound.json")
    child = int(Path(f"/proc/{first.process.pid}/task/{first.process.pid}/children").read_text())
    first.process.kill()
    await_end(child)
    preflight.check_port("127.0.0.1", first.port)


def test_a_server_that_is_no_launchers_and_still_loads_is_seen(
    fake_environment: dict[str, str], checkpoint: Path
) -> None:
    """Plain vLLM binds and does not listen. Where the kernel says so (Linux 6.8), it has the port."""
    with socket.socket() as loading:
        loading.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        loading.bind(("127.0.0.1", 0))
        port = loading.getsockname()[1]
        if not list(address_hold._bound(port)):
            pytest.skip("this kernel does not list such sockets")
        refused = complete(["serve", str(checkpoint), "--port", str(port)], fake_environment)
        assert refused.status == 1
        assert "held by a program that does not listen on it yet, such as a server that" in refused.err


# --- readiness, heartbeat and health know their own server


class Stranger(threading.Thread):
    """Another server at the address: answers 200 to everything, as a vLLM of somebody else's would."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.start()

    def run(self) -> None:
        body = b'{"data": [{"id": "other"}], "usage": {"completion_tokens": 1}}'
        answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def stranger() -> Iterator[list[Stranger]]:
    met: list[Stranger] = []
    yield met
    for each in met:
        each.close()


def test_a_server_is_not_ready_by_anothers_answers(start: Start, tmp_path: Path) -> None:
    """It has taken the port in the moment between the check and vLLM's own bind."""
    server = start(stranger=str(tmp_path))
    server.await_file(server.record / "bound.json")
    ended = server.end()
    assert ended.status == 1
    assert f"another server answers at {server.url}, so that this one never can" in ended.err
    assert not server.ready_file.exists()


def test_health_of_a_server_whose_address_another_has(
    start: Start, stranger: list[Stranger], fake_environment: dict[str, str]
) -> None:
    server = start()
    server.await_ready()
    asked = ["health", "--ready-file", str(server.ready_file)]
    assert complete(asked, fake_environment).status == 0
    told = server.ready_file.read_text()
    server.end(signal.SIGTERM)
    server.ready_file.write_text(told)
    stranger.append(Stranger(server.port))
    outcome = complete(asked, fake_environment)
    assert outcome.status == 1
    assert f"another server answers at {server.url}, not the one of {server.ready_file}" in outcome.err


def test_anothers_heartbeat_keeps_nobody_alive(start: Start, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    server = start("--watchdog", "2", stranger=str(strange))
    server.await_ready()
    strange.touch()
    ended = server.end()
    assert ended.status == 1
    assert "the engine has not answered for" in ended.err


# --- which addresses are one


@pytest.mark.parametrize(
    ("held", "asked", "conflict"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "127.0.0.1", False),
        ("::1", "::1", True),
        ("::", "::1", True),
        ("::", "127.0.0.1", True),
        ("127.0.0.1", "::", True),
        ("0.0.0.0", "::1", False),
        ("0.0.0.0", "::", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_what_is_held_is_what_the_kernel_would_refuse(held: str, asked: str, conflict: bool) -> None:
    if ":" in held + asked and not has_ipv6():
        pytest.skip("no IPv6 here")
    port = free_port()

    def listens(address: str) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
        return made

    with address_hold.port(held, port):
        assert (address_hold.holder(asked, port) is not None) is conflict
    assert address_hold.holder(asked, port) is None
    # The kernel's own answer, once the first one listens.
    with listens(held):
        try:
            listens(asked).close()
        except OSError:
            assert conflict
        else:
            assert not conflict


def test_names_stand_for_the_address_that_vllm_binds() -> None:
    """Of a name vLLM makes an IPv4 address, also where it has one of IPv6, too."""
    port = free_port()
    assert preflight.check_port("localhost", port) == "127.0.0.1"
    with address_hold.port("127.0.0.1", port), pytest.raises(UserError, match="held by another dgx-vllm"):
        preflight.check_port("localhost", port)
    assert preflight.check_port("", port) == "0.0.0.0"


# --- Unix sockets


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose sockets have short paths: relative ones."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_second_server_on_one_socket_is_refused(start: Start, place: Path) -> None:
    first = start("--uds", "s", listen_after=600)
    first.await_file(first.record / "argv.json")
    second = start("--uds", str(Path("model") / ".." / "s"))
    ended = second.end()
    assert ended.status == 1
    assert "is held by another dgx-vllm; choose another with --uds" in ended.err
    assert first.end(signal.SIGTERM).status == 0
    assert not (place / "s.lock").exists()


def test_a_socket_that_a_killed_server_left_is_no_hindrance(start: Start, place: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind("s")
    left.listen()
    left.close()
    server = start("--uds", "s")
    server.await_ready()
    assert server.end(signal.SIGTERM).status == 0
    assert not (place / "s").exists()


@pytest.mark.parametrize("listens", [True, False])
def test_a_socket_that_another_program_has_is_refused(place: Path, listens: bool) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("s")
        if listens:
            other.listen()
        with pytest.raises(UserError, match="the socket s is in use"):
            address_hold.path("s")
    assert (place / "s").exists()
    assert not (place / "s.lock").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("file", "the file there is not a socket"),
        ("none/s", "there is no directory none"),
        ("s" * 108, "longer than the 107 bytes"),
    ],
)
def test_a_path_where_no_socket_can_be_is_refused(place: Path, path: str, said: str) -> None:
    (place / "file").write_text("precious")
    with pytest.raises(UserError, match=said):
        address_hold.path(path)
    assert (place / "file").read_text() == "precious"


def test_a_program_that_waits_for_the_lock_gets_a_lock_that_counts(place: Path) -> None:
    """The first one removes the lock file that the second one has opened."""
    code = (
        "import sys, time; from dgx_vllm.launch.checks import address_hold\n"
        "from dgx_vllm.util.errors import UserError\n"
        "for _ in range(200):\n"
        "    try: held = address_hold.path('s')\n"
        "    except UserError: continue\n"
        "    mark = open('mark', 'x'); mark.close()\n"
        "    import os; os.unlink('mark'); held.release()\n"
    )
    path = os.pathsep.join(each for each in sys.path if each)
    racers = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}) for _ in "abc"
    ]
    assert [racer.wait(SECONDS) for racer in racers] == [0, 0, 0]
