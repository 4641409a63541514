"""Processes that a test started, or that those did."""

import time
from pathlib import Path

import psutil


def alive(pid: int) -> bool:
    """Whether it runs: a zombie has ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(pid: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.01)


def written(file: Path, seconds: float = 60) -> int:
    """The pid that a process writes into a file, as a line, once it has."""
    end = time.monotonic() + seconds
    while not (file.is_file() and file.read_text().endswith("\n")):
        assert time.monotonic() < end, f"nothing has written {file}"
        time.sleep(0.01)
    return int(file.read_text())
