"""The registry of running servers: who is in it, for how long, and what becomes of what is left over."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dgx_vllm.launch.process import registry
from dgx_vllm.launch.process.registry import Entry, Registration


def entry(**changes: object) -> Entry:
    given = Entry(
        pid=os.getpid(),
        host=os.uname().nodename,
        model="org/model",
        uses=("org/model",),
        url="http://127.0.0.1:8888",
        started=1.0,
    )
    return msgspec.structs.replace(given, **changes)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


def test_a_server_is_known_until_it_ends(environ: dict[str, str]) -> None:
    assert registry.entries(environ) == []
    first, second = Registration(entry(), environ), Registration(entry(started=2.0), environ)
    assert [each.started for each in registry.entries(environ)] == [1.0, 2.0]
    second.ready("name")
    found = registry.entries(environ)[1]
    assert found.served == "name"
    assert found.ready is not None
    first.close()
    assert [each.served for each in registry.entries(environ)] == ["name"]
    second.close()
    assert registry.entries(environ) == []
    assert list((Path(environ["XDG_STATE_HOME"]) / "dgx-vllm/servers").iterdir()) == []


def test_what_a_killed_server_left_is_removed(environ: dict[str, str]) -> None:
    code = (
        "import os, sys, msgspec\n"
        "from dgx_vllm.launch.process.registry import Entry, Registration\n"
        "Registration(msgspec.json.decode(sys.argv[1], type=Entry), os.environ)\n"
        "print('there', flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, msgspec.json.encode(entry()).decode()],
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "there\n"
    assert len(registry.entries(environ)) == 1
    child.send_signal(signal.SIGKILL)
    child.wait()
    place = registry.directory(environ)
    assert place is not None
    assert len(list(place.iterdir())) == 1
    assert registry.entries(environ) == []
    assert list(place.iterdir()) == []


def test_a_server_of_another_machine_is_left_alone(environ: dict[str, str]) -> None:
    """Two Sparks may share a home."""
    Registration(entry(host="elsewhere"), environ)
    assert registry.entries(environ) == []
    place = registry.directory(environ)
    assert place is not None
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"pid": "x"})])
def test_a_damaged_entry_is_no_server(environ: dict[str, str], text: str) -> None:
    place = registry.directory(environ)
    assert place is not None
    place.mkdir(parents=True)
    (place / "1-a.json").write_text(text)
    assert registry.entries(environ) == []


def test_a_state_directory_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ = {"XDG_STATE_HOME": str(tmp_path / "file")}
    registration = Registration(entry(), environ)
    registration.ready("name")
    registration.close()
    assert registry.entries(environ) == []


def test_others_cannot_read_it(environ: dict[str, str]) -> None:
    registration = Registration(entry(), environ)
    place = registry.directory(environ)
    assert place is not None
    assert place.stat().st_mode & 0o077 == 0
    assert next(place.iterdir()).stat().st_mode & 0o077 == 0
    registration.close()
