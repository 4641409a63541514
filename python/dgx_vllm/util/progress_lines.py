"""Progress: how much is here, how fast the rest comes, and when it will have come."""

import time
from collections.abc import Callable

from dgx_vllm.util import messages
from dgx_vllm.util.amounts import GB, MB, gb


class Meter:
    """Done, total and speed as one line.

    Args:
        total: bytes in all.
        done: bytes that were here before.
        now: seconds on any clock.
    """

    def __init__(self, total: int, done: int, now: float) -> None:
        self._total = total
        self._last = (done, now)

    def line(self, done: int, now: float) -> str:
        """The state; the speed is that since the line before."""
        before, then = self._last
        self._last = (done, now)
        speed = max(done - before, 0) / max(now - then, 1e-3)
        left = f", {duration((self._total - done) / speed)} left" if speed else ""
        share = 100 * done // self._total if self._total else 100
        unit = f"{speed / GB:.2f} GB/s" if speed >= GB else f"{speed / MB:.1f} MB/s"
        return f"{gb(done)} of {gb(self._total)} ({share}%), {unit}{left}"


class Progress:
    """Says a line now and then.

    Args:
        total: bytes in all.
        done: bytes that are here already.
        clock: seconds.
        tell: is given the lines; by default `messages.say`.
        seconds: between two lines; by default `messages.progress_seconds`.
    """

    def __init__(
        self,
        total: int,
        done: int,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] | None = None,
        seconds: float | None = None,
    ) -> None:
        self._clock = clock
        self._tell = tell or messages.say
        self._seconds = seconds or messages.progress_seconds()
        self._meter = Meter(total, done, clock())
        self._next = clock() + self._seconds

    def at(self, done: int) -> None:
        """That many bytes are here now."""
        now = self._clock()
        if now >= self._next:
            self._next = now + self._seconds
            self._tell(self._meter.line(done, now))


def duration(seconds: float) -> str:
    """A time as people say it."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
