"""Nix's message about the lock file, which the stand-in for nixpkgs brings: kept from the reader."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from types import FrameType

#: The variable that tells a program which descriptor is its real stderr.
STDERR = "DGX_VLLM_OFFLINE_STDERR"

_FIRST = b"warning: not writing modified lock file of flake '"
_NEXT = ("\u2022 ".encode(), b"    '", "  \u2192 '".encode())
# Colours and what erases a progress bar; at the end, one that has not come as a whole.
_ESCAPE = re.compile(rb"\r|\x1b\[[0-9;?]*[A-Za-z]|\x1b(?:\[[0-9;?]*)?$")


class Filter:
    """Takes nix's stderr in pieces, and gives it back without the message.

    What cannot become the message is given back at once: a progress bar has no end of line.
    """

    def __init__(self) -> None:
        self._held = b""
        self._within = False  # the message
        self._passing = False  # the rest of a line whose beginning was given back

    def feed(self, data: bytes) -> bytes:
        """What of `data`, and of what was held, is to be shown now."""
        self._held += data
        shown = b""
        while self._held:
            end = re.search(rb"\n|(?<=.)(?=\r)", self._held, re.DOTALL)
            if end is None:
                if self._passing or not self._may_begin(self._held):
                    shown, self._held = shown + self._held, b""
                    self._passing, self._within = True, False
                break
            line, self._held = self._held[: end.end()], self._held[end.end() :]
            if self._passing or not self._is_message(line):
                shown += line
            self._passing = False
        return shown

    def rest(self) -> bytes:
        """What is still held when nothing more comes."""
        held, self._held = self._held, b""
        return b"" if self._is_message(held) else held

    def _is_message(self, line: bytes) -> bool:
        plain = _ESCAPE.sub(b"", line.rstrip(b"\n"))
        if self._within and not plain and not line.endswith(b"\n"):
            return False  # a bar is erased
        self._within = plain.startswith(_NEXT if self._within else _FIRST)
        return self._within

    def _may_begin(self, part: bytes) -> bool:
        plain = _ESCAPE.sub(b"", part)
        return any(
            begun.startswith(plain) or plain.startswith(begun)
            for begun in (_NEXT if self._within else (_FIRST,))
        )


def hide() -> None:
    """From now on stderr, also of what this process becomes, goes through a Filter in another process.

    A terminal stays one. The variable STDERR names a descriptor of the stderr that was.
    """
    if sys.stderr is None:  # closed by the caller
        return
    sys.stderr.flush()
    if sys.stderr.isatty():
        source, sink = os.openpty()
        _resemble(sink)
    else:
        source, sink = os.pipe()
    # The filter's parent ends at once: whatever this process becomes has no child that it does not know.
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.close(sink)
            with contextlib.suppress(BaseException):
                _relay(source, 2)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(source)
    os.environ[STDERR] = str(os.dup(2))
    os.set_inheritable(int(os.environ[STDERR]), True)
    os.dup2(sink, 2)
    os.close(sink)


def _resemble(terminal: int) -> None:
    """Makes a new terminal as large as stderr's. It changes nothing that is written: the real one will."""
    modes = termios.tcgetattr(terminal)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, modes)
    _resize(terminal)


def _resize(terminal: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(2, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


def _relay(source: int, target: int) -> None:
    """Copies to the end, whatever signals the group of processes gets: nix's last words come after them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)

    def resized(_number: int, _frame: FrameType | None) -> None:
        _resize(source)

    signal.signal(signal.SIGWINCH, resized)
    # Nobody who waits for the end of stdout waits for this process.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    taken = Filter()
    while data := _read(source):
        _write(target, taken.feed(data))
    _write(target, taken.rest())


def _read(source: int) -> bytes:
    """The next piece; empty at the end, which a terminal says by an error."""
    try:
        return os.read(source, 65536)
    except OSError:
        return b""


def _write(target: int, data: bytes) -> None:
    """All of it, or none where nobody reads any more: nix must not wait for a reader that has gone."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(target, data) :]
