"""How far a download is: one line that is rewritten on a terminal, one line a file elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time


def amount(size: float) -> str:
    """Bytes as one reads them, in the largest unit of which there is one.

    Args:
        size: in bytes.
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.{1 if unit == 1e9 else 0}f} {name}"
    return f"{size:.0f} bytes"


class Progress:
    """Counts files and bytes of `total_bytes`; safe to call from several threads."""

    def __init__(self, total_files: int, total_bytes: int) -> None:
        self._files, self._bytes = total_files, total_bytes
        self._done_files = self._done_bytes = 0
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()

    def done(self, name: str, size: int) -> None:
        """Count a file of `size` bytes."""
        with self._lock:
            self._done_files += 1
            self._done_bytes += size
            seconds = max(time.monotonic() - self._start, 0.1)
            line = (
                f"[{self._done_files}/{self._files}] "
                f"{amount(self._done_bytes)} of {amount(self._bytes)}, "
                f"{amount(self._done_bytes / seconds)}/s  {name}"
            )
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{line[:width]}" if self._terminal else f"{line}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the line, so that what is written next starts one of its own."""
        if self._terminal and self._done_files:
            sys.stderr.write("\n")
