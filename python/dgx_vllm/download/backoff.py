"""Backoff: how long to wait after an attempt that failed, and when to give up."""

from dataclasses import dataclass

FIRST = 5.0
"""Seconds before the second attempt."""

LONGEST = 300.0
"""Seconds that no wait exceeds."""

ATTEMPTS = 10
"""Attempts in a row without a new byte before giving up."""


def delay(failures: int) -> float:
    """Seconds to wait after that many attempts in a row without a new byte, at least 1."""
    # The exponent is bounded as well: a float overflows long before an int does.
    return min(FIRST * 2 ** min(failures - 1, 16), LONGEST)


@dataclass
class Patience:
    """Counts the attempts in a row that brought nothing."""

    failures: int = 0

    def after(self, progressed: bool) -> float | None:
        """Seconds to wait after a failed attempt, None to give up.

        Args:
            progressed: whether the attempt brought bytes that no attempt before it had.
        """
        if progressed:
            self.failures = 0
            return FIRST
        self.failures += 1
        return None if self.failures >= ATTEMPTS else delay(self.failures)

    def restore(self) -> None:
        """An attempt succeeded."""
        self.failures = 0
