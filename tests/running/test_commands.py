"""`ps`, `status`, `stop` and `logs`, for plain servers and for services."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer

import msgspec
import pytest
from faking import Systemd, unit

from dgx_vllm.host.machine import GIB, Machine, Vllm
from dgx_vllm.launch.process import kept_log, registry
from dgx_vllm.launch.process.registry import Entry
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.running import report
from helpers.processes import PATIENCE

Run = Callable[..., tuple[int, str, str]]
_METRICS = """# HELP vllm:num_requests_running help
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""


LAPTOP = Machine(Vllm("0.32.0", "cpu", Path("/vllm"), has_command=False), (), 32 * GIB, 8, "/env/bin/python")


class _Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(_METRICS.encode() if self.path == "/metrics" else b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[type[_Handler]]:
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.port = server.server_address[1]  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    yield handler
    server.shutdown()
    server.server_close()


Plain = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def plain(environment: dict[str, str]) -> Iterator[Plain]:
    """A process that is registered as a server, until SIGTERM."""
    code = (
        "import os, signal, sys, time, msgspec\n"
        "from dgx_vllm.launch.process.registry import Entry, Registration\n"
        "given = msgspec.json.decode(sys.argv[1], type=Entry)\n"
        "Registration(msgspec.structs.replace(given, pid=os.getpid()), os.environ)\n"
        "print('there', flush=True)\n"
        "time.sleep(600)\n"
    )
    started = []

    def start(port: int = 9001, **changes: object) -> subprocess.Popen[str]:
        entry = Entry(
            pid=0,
            host=os.uname().nodename,
            model="org/model",
            uses=("org/model",),
            url=f"http://127.0.0.1:{port}",
            served="model",
            started=time.time() - 60,
            ready=time.time() - 30,
        )
        text = msgspec.json.encode(msgspec.structs.replace(entry, **changes)).decode()
        child = subprocess.Popen([sys.executable, "-c", code, text], env=environment, stdout=-1, text=True)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "there\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


SERVICE = "/x/dgx-vllm serve org/served --port 9100 --watchdog 120 --ready-file {file}"


def service(file: Path, **properties: object) -> dict[str, object]:
    told = {"url": "http://127.0.0.1:9100", "model": "served", "pid": 42}
    file.write_text(json.dumps(told))
    given = {
        "ActiveState": "active",
        "SubState": "running",
        "MainPID": 42,
        "UnitFileState": "enabled",
        "NRestarts": 2,
        "StateChangeTimestampMonotonic": 1,
        "Environment": "HOME=/var/lib/x HF_HOME=/var/cache/dgx-vllm/huggingface",
    }
    return unit(SERVICE.format(file=file), **{**given, **properties})


@pytest.mark.parametrize("words", [["ps"], ["status"], ["stop"], ["logs"]])
def test_nothing_runs_and_one_line_says_so(run: Run, systemd: Systemd, words: list[str]) -> None:
    status, out, err = run(*words)
    assert status == (0 if words == ["ps"] else 1)
    said = (out or err).removeprefix("dgx-vllm: ")
    assert said == "no server is running; start one: dgx-vllm serve MODEL\n"
    assert run("ps", "--json") == (0, "[]\n", "")


def test_no_systemd_at_all(run: Run, environment: dict[str, str], plain: Plain, tmp_path: Path) -> None:
    child = plain()
    environment["PATH"] = str(tmp_path)
    status, out, _ = run("ps", "--json")
    assert status == 0
    assert [each["pid"] for each in json.loads(out)] == [child.pid]


def test_ps_lists_servers_and_services(run: Run, systemd: Systemd, plain: Plain, tmp_path: Path) -> None:
    child = plain()
    off = unit("/x/dgx-vllm serve org/off --watchdog 120", UnitFileState="disabled")
    mine = unit(
        "/x/dgx-vllm serve --watchdog 120",
        ActiveState="activating",
        SubState="auto-restart",
        Result="exit-code",
    )
    systemd(
        system={"dgx-vllm-default.service": service(tmp_path / "ready"), "dgx-vllm-off.service": off},
        user={"dgx-vllm-mine.service": mine},
    )
    status, out, err = run("ps")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["9001", "org/model", "http://127.0.0.1:9001/v1", "ready"] in [row[:4] for row in rows]
    row = next(row for row in rows if row[:1] == ["default"])
    assert row[1:4] == ["org/served", "http://127.0.0.1:9100/v1", "ready"]
    assert row[-2:] == ["42", "service"]
    assert "off" not in [row[0] for row in rows if row]
    found = {each["name"]: each for each in json.loads(run("ps", "--all", "--json")[1])}
    assert list(found) == ["9001", "default", "off", "mine"]
    assert (found["9001"]["kind"], found["9001"]["pid"], found["9001"]["served"]) == (
        "process",
        child.pid,
        "model",
    )
    assert (found["default"]["kind"], found["default"]["served"], found["default"]["restarts"]) == (
        "system",
        "served",
        2,
    )
    assert found["default"]["cache"] == "/var/cache/dgx-vllm/huggingface/hub"
    assert (found["off"]["state"], found["off"]["boots"], found["off"]["pid"]) == ("stopped", False, None)
    assert (found["mine"]["kind"], found["mine"]["state"], found["mine"]["model"]) == (
        "user",
        "starting",
        "demo",
    )
    assert "exit-code" in found["mine"]["detail"]


def test_a_service_that_waits_for_its_download(run: Run, systemd: Systemd) -> None:
    systemd(
        system={
            "dgx-vllm-big.service": unit("/x/dgx-vllm serve org/big --watchdog 120"),
            "dgx-vllm-big-download.service": unit(
                "/x/dgx-vllm download --if-missing org/big", ActiveState="activating"
            ),
        }
    )
    (found,) = json.loads(run("ps", "--json")[1])
    assert (found["name"], found["state"], found["model"]) == ("big", "downloading", "org/big")


def test_a_unit_without_a_file_is_found(run: Run, systemd: Systemd, tmp_path: Path) -> None:
    systemd(system={"dgx-vllm-loose.service": {**service(tmp_path / "ready"), "file": False}})
    assert [each["name"] for each in json.loads(run("ps", "--json")[1])] == ["loose"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (172799, "47 h 59 min"),
        (172800, "2 d"),
    ],
)
def test_how_long_it_has_been(seconds: float, said: str) -> None:
    assert report.duration(seconds) == said


def test_status_asks_the_server(run: Run, systemd: Systemd, plain: Plain, answering: type[_Handler]) -> None:
    plain(port=answering.port)  # type: ignore[attr-defined]
    status, out, _ = run("status")
    assert status == 0
    assert "health   answers" in out
    assert "requests 2 running, 1 waiting, 25% of the KV cache in use" in out
    (found,) = json.loads(run("status", "--json")[1])
    assert found["health"] == {"healthy": True, "problem": None, "running": 2, "waiting": 1, "kv_cache": 0.25}
    answering.status = 503
    status, out, _ = run("status", "model")
    assert status == 1
    assert "health   /health answers 503" in out


def test_health_of_the_only_server(
    run: Run, systemd: Systemd, plain: Plain, answering: type[_Handler]
) -> None:
    assert run("health")[2] == "dgx-vllm: no server is running; start one: dgx-vllm serve MODEL\n"
    plain(port=answering.port)  # type: ignore[attr-defined]
    assert run("health") == (0, f"{answering.port} is healthy\n", "")  # type: ignore[attr-defined]
    answering.status = 503
    status, _, err = run("health")
    assert status == 1
    assert "/health answers 503" in err


@pytest.mark.parametrize("journal", [True, False])
def test_a_log_is_kept_unless_the_journal_has_it(
    environment: dict[str, str], tmp_path: Path, journal: bool
) -> None:
    """A desktop's terminal inherits JOURNAL_STREAM from a service, and its programs do not write there."""
    state = os.fstat(2)
    stream = f"{state.st_dev}:{state.st_ino if journal else state.st_ino + 1}"
    launch = render(resolve(Request({}, {}), LAPTOP, frozenset()))
    assert (kept_log.path(launch, {**environment, "JOURNAL_STREAM": stream}) is None) == journal


def test_status_where_another_server_answers(
    run: Run, systemd: Systemd, plain: Plain, answering: type[_Handler]
) -> None:
    plain(port=answering.port, server="mine")  # type: ignore[attr-defined]
    status, out, _ = run("status")
    assert status == 1
    assert "health   another server answers" in out


def test_status_of_one_that_does_not_answer(run: Run, systemd: Systemd, plain: Plain) -> None:
    plain(port=9)
    status, out, _ = run("status")
    assert status == 1
    assert "health   no answer" in out


@pytest.mark.parametrize("word", ["9001", "org/model", "model", "http://127.0.0.1:9001", None])
def test_a_plain_server_is_stopped_by_any_of_its_names(
    run: Run, systemd: Systemd, plain: Plain, environment: dict[str, str], word: str | None
) -> None:
    child = plain()
    assert run("stop", *([word] if word else [])) == (0, "9001 has stopped\n", "")
    assert child.wait(PATIENCE) == -signal.SIGTERM
    assert registry.entries(environment) == []


def test_which_of_two_must_be_said(run: Run, systemd: Systemd, plain: Plain) -> None:
    plain(), plain(port=9002)
    status, _, err = run("stop")
    assert status == 2
    assert "several servers are running; name one: 9001 (org/model), 9002 (org/model)" in err
    status, _, err = run("stop", "org/model")
    assert status == 2
    assert "could be any of 9001 (org/model), 9002 (org/model); name one" in err
    status, _, err = run("stop", "9003")
    assert status == 1
    assert "there is no server '9003'; did you mean" in err
    assert run("stop", "9002")[0] == 0


def test_a_service_is_stopped_by_its_manager(run: Run, systemd: Systemd, tmp_path: Path) -> None:
    file = tmp_path / "ready"
    systemd(system={"dgx-vllm-a.service": service(file)}, user={"dgx-vllm-b.service": service(file)})
    status, out, _ = run("stop", "a")
    assert status == 0
    assert "it starts again with the machine: sudo systemctl disable dgx-vllm-a.service" in out
    assert run("stop", "dgx-vllm-b")[0] == 0
    stops = [call for call in systemd() if call[2][0] == "stop"]
    assert stops == [
        ("systemctl", False, ["stop", "dgx-vllm-a.service"]),
        ("systemctl", True, ["stop", "dgx-vllm-b.service"]),
    ]


def test_the_managers_refusal_is_the_status(run: Run, systemd: Systemd, tmp_path: Path) -> None:
    systemd(system={"dgx-vllm-a.service": service(tmp_path / "ready")}, denied={"x": 1})
    assert run("stop", "a")[0] == 1


def test_a_services_log_is_the_journals(
    environment: dict[str, str], systemd: Systemd, tmp_path: Path
) -> None:
    systemd(user={"dgx-vllm-a.service": service(tmp_path / "ready")})
    done = subprocess.run(
        [sys.executable, "-m", "dgx_vllm.cli", "logs", "a", "-n", "7"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "a line of the journal\n")
    assert tuple(systemd()[-1]) == (
        "journalctl",
        True,
        ["--unit", "dgx-vllm-a.service", "--lines=7", "--no-pager"],
    )


def test_the_end_of_a_plain_servers_log(
    run: Run, systemd: Systemd, plain: Plain, environment: dict[str, str]
) -> None:
    place = registry.directory(environment)
    assert place is not None
    file = place.parent / "logs" / "9001.log"
    log = kept_log.Kept(str(file), limit=64)
    child = plain(log=str(file))
    for number in range(20):
        log.write(f"line {number}\n".encode())
    assert run("logs", "-n", "3")[1] == "line 17\nline 18\nline 19\n"
    assert run("logs", "-n", "9")[1].splitlines()[0] == "line 11"
    child.kill()
    child.wait()
    # It can be read when the server is gone, by the port.
    assert run("logs", "9001", "-n", "1")[1] == "line 19\n"
    assert file.stat().st_mode & 0o077 == 0


def test_a_log_is_followed_until_the_server_ends(
    environment: dict[str, str], systemd: Systemd, plain: Plain
) -> None:
    place = registry.directory(environment)
    assert place is not None
    file = place.parent / "logs" / "9001.log"
    log = kept_log.Kept(str(file), limit=40)
    child = plain(log=str(file))
    log.write(b"before\n")
    reader = subprocess.Popen(
        [sys.executable, "-m", "dgx_vllm.cli", "logs", "-f"], env=environment, stdout=-1, text=True
    )
    assert reader.stdout is not None
    bound = Timer(PATIENCE, reader.kill)  # what it waits for comes to an end then
    bound.start()
    try:
        assert reader.stdout.readline() == "before\n"
        for number in range(9):
            log.write(f"after {number}\n".encode())
            assert reader.stdout.readline() == f"after {number}\n"
        child.kill()
        child.wait()
        assert reader.wait(PATIENCE) == 0
    finally:
        bound.cancel()


def test_no_line_is_lost_between_the_end_and_what_follows(tmp_path: Path) -> None:
    log = kept_log.Kept(str(tmp_path / "log"), limit=30)
    log.write(b"before\n")
    reader = kept_log.Reader(tmp_path / "log")
    seen = reader.last(10)
    for number in range(50):
        log.write(f"line {number}\n".encode())
        if number % 3 == 0:
            seen += reader.more()
    seen += reader.more()
    assert seen.decode().splitlines() == ["before", *(f"line {number}" for number in range(50))]


def test_servers_of_one_port_on_two_addresses_keep_a_log_each(tmp_path: Path) -> None:
    logs = [kept_log.Kept(str(tmp_path / "9001.log"), limit=30) for _ in range(3)]
    assert [log.name for log in logs] == [
        str(tmp_path / name) for name in ("9001.log", "9001-2.log", "9001-3.log")
    ]
    for number in range(6):
        for which, log in enumerate(logs):
            log.write(f"log {which} line {number}\n".encode())
    for which, log in enumerate(logs):
        assert log.name is not None
        expected = "".join(f"log {which} line {number}\n" for number in range(3, 6))
        assert kept_log.Reader(Path(log.name)).last(3).decode() == expected
    logs[0].close()
    # The next server on the port takes the name that is free, and puts aside what the last one wrote.
    following = kept_log.Kept(str(tmp_path / "9001.log"))
    assert following.name == str(tmp_path / "9001.log")
    assert (tmp_path / "9001.log").read_bytes() == b""
    assert b"log 0 line 5" in (tmp_path / "9001.log.1").read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_a_server_without_a_log(run: Run, systemd: Systemd, plain: Plain) -> None:
    plain()
    status, _, err = run("logs")
    assert status == 1
    assert "has no log here" in err
