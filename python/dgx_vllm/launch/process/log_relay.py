"""The server's log: passed on as it comes, its end remembered for the reason of a death."""

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO

from dgx_vllm.util.outlet import Outlet

_LINES = 400
_CHUNK = 65536

# What frightens, and what it means.
_EXPLAINED = {
    "Your GPU does not have native support for FP4": (
        "dgx-vllm: Marlin's kernels compute in 16 bits from weights of 4 bits, on every GPU. The line above "
        "is about them, not about the GPU: a GB10 has FP4 instructions, and other backends use them"
    )
}

# What vLLM puts before each line: "(EngineCore pid=7) ERROR 11-23 21:50:38 [core.py:11] ", and torch before
# those of a worker's exception: "[rank0]: ".
_PREFIX = re.compile(r"^(\[rank\d+\]: )?(\([\w ]+pid=\d+\) )?([A-Z]+ [\d-]+ [\d:]+ \[[\w./:]+\] )?")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_EXCEPTION = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)): (.+)")
# What a parent process says of the death of its child, which has said why.
_ECHO = re.compile(r"Engine core initialization failed|EngineDeadError|See stack trace|WorkerProc init")


class Log:
    """Reads a process's output streams, from threads of their own, and passes each byte on at once.

    Args:
        keep: called with the same bytes, in those threads.
    """

    def __init__(self, keep: Callable[[bytes], None] | None = None) -> None:
        self._keep = keep
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._threads: list[threading.Thread] = []
        self._explained: set[str] = set()

    def follow(self, stream: IO[bytes], to: Outlet) -> None:
        """Reads a pipe until its last writer is gone, whether or not anybody reads the outlet."""
        thread = threading.Thread(target=self._copy, args=(stream, to), name="log", daemon=True)
        thread.start()
        self._threads.append(thread)

    def finish(self, seconds: float) -> None:
        """Waits for what is still in the pipes."""
        for thread in self._threads:
            thread.join(seconds)

    def cause(self) -> str | None:
        """The error that the log ends in, None where it names none."""
        return cause(tuple(self._lines))

    def _copy(self, stream: IO[bytes], to: Outlet) -> None:
        rest = b""
        while chunk := os.read(stream.fileno(), _CHUNK):
            to.log(chunk)
            if self._keep:
                self._keep(chunk)
            *lines, rest = (rest[-_CHUNK:] + chunk).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                self._lines.append(text)
                self._explain(text, to)

    def _explain(self, line: str, to: Outlet) -> None:
        """Says once what a line that frightens means."""
        for words, meaning in _EXPLAINED.items():
            if words in line and words not in self._explained:
                self._explained.add(words)
                to.say(f"{meaning}\n")


def cause(lines: Sequence[str]) -> str | None:
    """The last error in a log that is more than the echo of another process's.

    Args:
        lines: of vLLM's log, tracebacks among them.

    Returns:
        Such as `ValueError: no such thing`, without line breaks.
    """
    plain = [_PREFIX.sub("", _COLOUR.sub("", line)).rstrip() for line in lines]
    for number in reversed(range(len(plain))):
        found = _EXCEPTION.match(plain[number])
        if found and not _ECHO.search(plain[number]):
            name, text = found.groups()
            # Pydantic counts its errors on this line and names the first on the next.
            following = plain[number + 1].strip() if number + 1 < len(plain) else ""
            counted = re.fullmatch(r"\d+ validation errors? for \w+", text)
            return following.removeprefix("Value error, ") if counted and following else f"{name}: {text}"
    return None
