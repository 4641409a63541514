"""What is written where nobody reads: it holds up nobody, and what is missing is told."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.launch.process.log_relay import Log
from dgx_vllm.util.outlet import Outlet
from helpers.launching import COMMAND, Start, free_port
from helpers.processes import await_end

SECONDS = 300
DROPPED = re.compile(
    rb"^dgx-vllm: ([\d,]+) lines? of the log (?:was|were) dropped: nobody read the output$", re.M
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe that is full after 4096 bytes."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for each in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(each)


def read_until(stream: int, end: bytes) -> bytes:
    """All that comes until it ends so."""
    found = b""
    while not found.endswith(end):
        found += os.read(stream, 65536)
    return found


def test_a_log_that_nobody_reads_holds_up_nobody_and_is_counted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    outlet = Outlet(writing, limit=10_000)
    line = b"x" * 99 + b"\n"
    for _ in range(1000):
        outlet.log(line)  # on the old tree, a write that waits for ever
    outlet.say("the last word\n")
    outlet.finish(patience=0.05, seconds=1)
    shown = read_until(reading, b"nobody read the output\n")
    found = DROPPED.search(shown)
    assert found is not None
    assert shown.count(line) + int(found[1].replace(b",", b"")) == 1000
    assert b"the last word\n" in shown
    outlet.log(b"and on\n")
    assert read_until(reading, b"\n") == b"and on\n"


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 200), min_size=1, max_size=20),
    limit=st.integers(1, 400),
    pause=st.integers(0, 60),
)
def test_lines_are_whole_and_none_is_uncounted(
    sizes: list[int], cuts: list[int], limit: int, pause: int
) -> None:
    """However the log is cut, and whenever a reader comes, lines shown and dropped are all lines."""
    lines = [f"{number}:".encode() + b"y" * size + b"\n" for number, size in enumerate(sizes)]
    text = b"".join(lines)
    reading, writing = os.pipe()
    outlet = Outlet(writing, limit)
    shown = bytearray()

    def read() -> None:
        while part := os.read(reading, 64):
            shown.extend(part)

    reader = threading.Thread(target=read)
    at = 0
    for number in range(len(text)):
        if at >= len(text):
            break
        if number == pause:
            reader.start()
        step = cuts[number % len(cuts)]
        outlet.log(text[at : at + step])
        at += step
    if not reader.is_alive():
        reader.start()
    outlet.finish(patience=SECONDS, seconds=SECONDS)
    os.close(writing)
    reader.join(SECONDS)
    os.close(reading)
    dropped = sum(int(found[1].replace(b",", b"")) for found in DROPPED.finditer(shown))
    known = set(lines)
    whole = [line for line in bytes(shown).splitlines(keepends=True) if line in known]
    # A line that was cut counts for each time that it was.
    assert len(lines) <= len(whole) + dropped <= len(lines) + 2 * len(DROPPED.findall(shown))
    # In the order of the log.
    assert [line for line in lines if line in whole] == whole


def test_a_reader_that_is_gone_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outlet = Outlet(writing)
    for _ in range(100):
        outlet.log(b"lost\n")
    outlet.finish(patience=SECONDS, seconds=SECONDS)
    os.close(writing)


def test_a_full_disk_is_told_once_there_is_room(tmp_path: Path) -> None:
    """/dev/full fails each write; the file that then takes its place gets the count."""
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full)
    outlet.log(b"one\ntwo\n")
    outlet.finish(patience=SECONDS, seconds=SECONDS)
    path = tmp_path / "log"
    made = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(made, full)
    outlet.log(b"three\n")
    outlet.finish(patience=SECONDS, seconds=SECONDS)
    assert path.read_text() == "dgx-vllm: 2 lines of the log were dropped: nobody read the output\nthree\n"
    for each in (full, made):
        os.close(each)


def test_a_stream_that_does_not_block_gets_all(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    outlet = Outlet(writing)
    text = b"".join(f"line {number}\n".encode() for number in range(5000))
    outlet.log(text)
    found = b""
    while len(found) < len(text):
        found += os.read(reading, 65536)
    assert found == text


def test_a_part_of_a_line_comes_at_once(pipe: tuple[int, int]) -> None:
    """A bar that shows how far loading is has no end of line."""
    reading, writing = pipe
    outlet = Outlet(writing)
    outlet.log(b"Loading:  5%\r")
    assert os.read(reading, 100) == b"Loading:  5%\r"
    outlet.say("dgx-vllm: own words\n")
    assert os.read(reading, 100) == b"\ndgx-vllm: own words\n"


def test_marlins_line_about_fp4_is_explained_once() -> None:
    reading, writing = os.pipe()
    child, into = os.pipe()
    log, outlet = Log(), Outlet(writing)
    line = b"WARNING Your GPU does not have native support for FP4 computation but FP4 ...\n"
    os.write(into, line * 2)
    os.close(into)
    with os.fdopen(child, "rb") as stream:
        log.follow(stream, outlet)
        log.finish(SECONDS)
    outlet.finish(SECONDS, SECONDS)
    os.close(writing)
    with os.fdopen(reading, "rb") as shown:
        said = shown.read()
    assert said.count(line) == 2
    assert said.count(b"dgx-vllm: Marlin's kernels compute in 16 bits") == 1


# --- a whole server


def _start_unread(
    environ: dict[str, str], checkpoint: Path, record: Path, *words: str, terminal: bool
) -> tuple[subprocess.Popen[bytes], int]:
    """A launcher whose output nobody reads, and the other end of its pipe or terminal."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    if not terminal:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    command = [*COMMAND, "serve", str(checkpoint), "--port", str(free_port())]
    command += ["--ready-file", str(record / "ready.json"), *words]
    launcher = subprocess.Popen(command, env=environ, stdout=writing, stderr=writing)
    os.close(writing)
    return launcher, reading


def _await(path: Path, launcher: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not appear"
        assert launcher.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("end", ["stop", "death", "stuck"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_a_server_whose_log_nobody_reads_answers_and_ends(
    fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path, end: str, terminal: bool
) -> None:
    """It writes two megabytes before it answers; the launcher's own last line finds the pipe full, too."""
    behaviour: dict[str, object] = {"chatter": 20_000, "child": True}
    behaviour |= {"death": {"exit_after": 6.0, "exit_status": 7}, "stuck": {"stuck_after": 3.0}}.get(end, {})
    environ = {**fake_environment, "FAKE_VLLM": json.dumps(behaviour), "FAKE_VLLM_RECORD": str(tmp_path)}
    words = ["--watchdog", "1"] if end == "stuck" else []
    launcher, unread = _start_unread(environ, checkpoint, tmp_path, *words, terminal=terminal)
    try:
        if end != "death":
            _await(tmp_path / "ready.json", launcher)
        if end == "stop":
            launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(SECONDS) == {"stop": 0, "death": 7, "stuck": 1}[end]
        await_end(int((tmp_path / "child.json").read_text()))
        assert os.read(unread, 65536)
    finally:
        launcher.kill()
        os.close(unread)


def test_a_reader_that_comes_back_learns_how_much_is_missing(start: Start) -> None:
    server = start(chatter=20_000)
    server.await_ready()
    outcome = server.end(signal.SIGTERM)
    found = DROPPED.search(outcome.err.encode())
    assert found is not None
    assert outcome.err.count("chatter\n") + int(found[1].replace(b",", b"")) == 20_000


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_a_stream_that_is_closed_from_the_start_gets_nothing(
    fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """Its number is free for the next file that is opened: no log may go there."""
    environ = {**fake_environment, "FAKE_VLLM": "{}", "FAKE_VLLM_RECORD": str(tmp_path)}
    ready = tmp_path / "ready.json"
    words = [*COMMAND, "serve", str(checkpoint), "--port", str(free_port()), "--ready-file", str(ready)]
    shut = " ".join(f"{each}>&-" for each in closed)
    launcher = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {shut}', "sh", *words],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _await(ready, launcher)
    assert json.loads(ready.read_text())["pid"] == launcher.pid
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(SECONDS) == 0
