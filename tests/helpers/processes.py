"""Processes that a test started, or that those did."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATIENCE = 300.0
"""Seconds to wait for what must happen. It bounds a fault; it says nothing about a machine's speed."""


def until(
    condition: Callable[[], object], failure: str = "it did not happen", seconds: float = PATIENCE
) -> None:
    """Waits for a condition, and fails where it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, failure
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it runs: a zombie has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(pid: int) -> None:
    until(lambda: not alive(pid), f"process {pid} is still there")


def written(file: Path) -> int:
    """The pid that a process writes into a file, as a line, once it has."""
    until(lambda: file.is_file() and file.read_text().endswith("\n"), f"nothing has written {file}")
    return int(file.read_text())
