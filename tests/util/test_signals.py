"""A program that ours starts ends with ours, whenever the signal comes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.util import signals
from helpers.processes import await_end, written

ENDLESS = [sys.executable, "-c", "import time; time.sleep(3600)"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_arrives_while_a_child_starts_ends_the_child(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the child runs long before `Popen` returns."""
    started: list[subprocess.Popen[Any]] = []
    popen = subprocess.Popen

    def interrupted(*words: Any, **options: Any) -> subprocess.Popen[Any]:
        started.append(popen(*words, **options))
        os.kill(os.getpid(), number)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.getsignal(number)
    # A build may run with SIGHUP ignored, which would stay so.
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), signals.as_interrupt(), signals.child(ENDLESS):
            pytest.fail("the signal was lost")
    finally:
        signal.signal(number, before)
    assert [each.poll() for each in started] == [-signal.SIGKILL]


def test_a_child_ends_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with signals.child(["/bin/sh", "-c", f"sleep 3600 & echo $! > {file}; wait"]):
        below = written(file)
    await_end(below)


def test_a_child_may_be_started_from_another_thread() -> None:
    """Only the main thread may handle signals; the child ends with the block all the same."""
    statuses: list[int | None] = []

    def run() -> None:
        with signals.child(ENDLESS) as process:
            pass
        statuses.append(process.poll())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert statuses == [-signal.SIGKILL]
