"""`pinning.lock_message`: nix's words about the lock file are hidden, and every other byte comes through."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import Machine

from helpers.processes import PATIENCE
from pinning.lock_message import Filter

MESSAGE = (
    "warning: not writing modified lock file of flake 'git+file:///home/me/dgx-vllm':\n"
    "• Updated input 'nixpkgs':\n"
    "    'github:NixOS/nixpkgs/efa487181cc01970ebb09ed193fa71dfe94784b1' (2026-08-16)\n"
    "  → 'path:/home/me/dgx-vllm/nix/offline/nixpkgs?narHash=sha256-SHHE' (2026-11-30)\n"
).encode()
# As it comes to a terminal: the bar is erased, words have colours, the bar is drawn again.
COLOURED = (
    "\r\x1b[K\x1b[35;1mwarning:\x1b[0m not writing modified lock file of flake 'git+file:///home/me/dgx-vllm':\n"
    "\x1b[0;1m• Updated input 'nixpkgs'\x1b[0m:\n"
    "    '\x1b[36;1mgithub:NixOS/nixpkgs/efa4\x1b[0m' (2026-08-16)\n"
    "  → '\x1b[36;1mpath:/home/me\x1b[0m' (2026-11-30)\x1b[0m\n"
).encode()
BAR = b"\r\x1b[K[0/1/2 built, 0.0 MiB DL] building check-unit"

AROUND = st.lists(
    st.sampled_from(
        [
            b"warning: unknown setting 'x'\n",
            b"warning: not writing\n",
            b"error: builder failed\n",
            "• a list of one\n".encode(),
            b"    'quoted'\n",
            b"\n",
            b"\x1b[31m",
            b"check-unit> 3 passed\r\n",
            BAR,
            BAR + b"\r\x1b[K",
            b"no end of line",
            b"\xff\x00",
        ]
    ),
    max_size=6,
).map(b"".join)


def filtered(text: bytes, cuts: Sequence[int] = ()) -> bytes:
    """The filter's output where the text comes in pieces."""
    filter_, out, last = Filter(), b"", 0
    for cut in [*sorted(cuts), len(text)]:
        out += filter_.feed(text[last:cut])
        last = cut
    return out + filter_.rest()


@settings(max_examples=300)
@given(st.data())
def test_what_is_not_the_message_comes_through_unchanged(data: st.DataObject) -> None:
    text = data.draw(AROUND)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    assert filtered(text, cuts) == text


@settings(max_examples=300)
@given(st.data())
def test_the_message_is_taken_out_wherever_it_is_and_however_it_comes(data: st.DataObject) -> None:
    before, after = data.draw(AROUND), data.draw(AROUND)
    # It begins a line, and what comes behind it is no line of it.
    before = before + b"\n" if before else b""
    after = b"building\n" + after
    for message in (MESSAGE, COLOURED):
        text = before + message + after
        cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
        assert filtered(text, cuts) == before + after


def test_a_bar_in_front_of_the_message_stays_and_is_drawn_again() -> None:
    assert filtered(BAR + COLOURED + BAR) == BAR + BAR


def test_a_bar_is_shown_at_once() -> None:
    assert Filter().feed(BAR) == BAR


def test_a_question_is_shown_at_once() -> None:
    """It waits for an answer on its own line."""
    assert Filter().feed(b"do you want to allow it (y/N)? ") == b"do you want to allow it (y/N)? "


#: What a program that nix has become writes to the stderr of whoever called, past the filter.
OWN = "the program's own stderr"


def test_nix_is_heard_but_for_the_message(machine: Machine) -> None:
    (machine.root / "nix-stderr").write_bytes(b"first\n" + MESSAGE + b"last\n")
    done = machine.run("run", ".#serve")
    assert (done.returncode, done.stdout) == (0, "nix runs\n")
    said = [line for line in done.stderr.splitlines() if not line.startswith(("offline: ", "["))]
    said.remove(OWN)  # two ways, so it may come anywhere
    assert said == ["first", "last", "a terminal: False", "columns: None"]


@pytest.mark.parametrize(
    ("command", "hidden"), [("build", True), ("flake check", True), ("develop", False), ("shell", False)]
)
def test_a_shell_keeps_its_stderr(machine: Machine, command: str, hidden: bool) -> None:
    (machine.root / "nix-stderr").write_bytes(MESSAGE)
    done = machine.run(*command.split())
    assert done.returncode == 0, done.stderr
    assert ("not writing modified lock file" not in done.stderr) == hidden


def test_a_terminal_stays_a_terminal_of_its_size(machine: Machine) -> None:
    (machine.root / "nix-stderr").write_bytes(BAR + COLOURED + BAR + b"\n")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 91, 0, 0))
    command = [sys.executable, "-B", "-m", "pinning.offline", "build", ".#all"]
    process = subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while piece := read(ours):
        shown += piece
    assert process.wait(timeout=PATIENCE) == 0
    os.close(ours)
    # What the program writes to its real stderr overtakes what goes through the filter.
    assert b"a terminal: True\r\n" in shown
    assert b"columns: 91\r\n" in shown
    assert BAR + BAR in shown
    assert b"lock file" not in shown


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody has the other end any more
        return b""
