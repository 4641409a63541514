"""An outlet: standard output or error, written by a thread of its own.

Whoever reads it may stop for good: Ctrl-S in a terminal, a paused `less`, a full pipe. Nobody waits for that.
"""

import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections import deque

LIMIT = 1 << 20
"""Bytes of the log that wait for a reader; what comes on top is dropped."""

# The pipe's own unit: how far a reader has come is seen by it.
_WRITE = 4096


class Outlet:
    """Passes bytes on to a file descriptor in the order of the calls, none of which blocks.

    Args:
        to: the file descriptor.
        limit: bytes of the log that may wait.
    """

    def __init__(self, to: int, limit: int = LIMIT) -> None:
        self._to = to
        self._limit = limit
        # What waits, each with the lines of log that are lost if it cannot be written.
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._size = 0
        self._busy = False
        self._written = 0
        # Since when lines are dropped, how many have ended.
        self._dropping = False
        self._dropped = 0
        # Whether the last line passed on, or the last one dropped, has still no end.
        self._open = False
        self._cut = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="outlet", daemon=True).start()

    def log(self, chunk: bytes) -> None:
        """Passes on a part of the log, or drops it where too much waits already."""
        with self._changed:
            if self._dropping and self._idle:
                self._tell()
            if self._dropping or (not self._idle and self._size + len(chunk) > self._limit):
                self._dropping = True
                self._dropped += chunk.count(b"\n")
                self._cut = not chunk.endswith(b"\n")
                return
            if self._cut:
                # The rest of a line whose beginning nobody has seen.
                _, end, chunk = chunk.partition(b"\n")
                self._cut = not end
            if chunk:
                self._put(chunk, chunk.count(b"\n") or 1)

    def say(self, text: str) -> None:
        """Passes on the launcher's own words, whole lines, whatever waits."""
        with self._changed:
            self._put((b"\n" if self._open else b"") + text.encode(errors="replace"), 1)

    def finish(self, patience: float, seconds: float) -> None:
        """Waits until all is written, or nobody reads.

        Args:
            patience: seconds without progress after which nobody reads.
            seconds: the most to wait in all.
        """
        end = time.monotonic() + seconds
        with self._changed:
            while not self._idle:
                written, left = self._written, end - time.monotonic()
                self._changed.wait_for(
                    lambda before=written: self._idle or self._written != before,  # type: ignore[misc]
                    min(patience, left),
                )
                if self._written == written or left <= 0:
                    return

    @property
    def _idle(self) -> bool:
        return not self._waiting and not self._busy

    def _put(self, content: bytes, lines: int) -> None:
        self._waiting.append((content, lines))
        self._size += len(content)
        self._open = not content.endswith(b"\n")
        self._changed.notify_all()

    def _tell(self) -> None:
        """Says once, where somebody reads again, how much is missing."""
        # A line of which a part is missing is not what the log said either.
        count = self._dropped + self._cut
        self._dropping, self._dropped = False, 0
        lines = "1 line of the log was" if count == 1 else f"{count:,} lines of the log were"
        start = "\n" if self._open else ""
        self._put(f"{start}dgx-vllm: {lines} dropped: nobody read the output\n".encode(), count)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                content, lines = self._waiting.popleft()
                self._busy = True
            try:
                self._write(content)
                lost = 0
            except OSError:  # the reader is gone, or the disk is full: the server goes on
                lost = lines
            with self._changed:
                self._size -= len(content)
                self._busy = False
                self._dropped += lost
                self._dropping |= lost > 0
                if self._dropping and not lost and self._idle:
                    self._tell()
                self._changed.notify_all()

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            try:
                count = os.write(self._to, left[:_WRITE])
            except BlockingIOError:  # somebody else's program has made it so
                select.select([], [self._to], [], 1)
                continue
            left = left[count:]
            with self._changed:
                self._written += count
                self._changed.notify_all()


def standard() -> tuple[Outlet, Outlet]:
    """This process's output and error; one and the same where both are one pipe or terminal."""
    to = []
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()  # what was printed before comes before
        # Of a stream that was closed from the start, the number may be another file's by now.
        to.append(os.open(os.devnull, os.O_WRONLY) if stream is None else number)
    out = Outlet(to[0])
    return out, out if _same(*to) else Outlet(to[1])


def _same(one: int, other: int) -> bool:
    try:
        state, other_state = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return os.path.samestat(state, other_state) and not stat.S_ISREG(state.st_mode)
