"""Signals: what asks a program to end ends what it has started too."""

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_with_parent() -> None:
    """Asks the kernel to end this process if its parent is killed: an orphan would hold the GPU's memory.

    For `subprocess.Popen`'s preexec_fn.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def as_interrupt() -> Iterator[None]:
    """While this lasts, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    asked = [signal.SIGTERM, signal.SIGHUP]
    before = {
        signum: signal.getsignal(signum) for signum in asked if signal.getsignal(signum) is not signal.SIG_IGN
    }
    for signum in before:
        signal.signal(signum, signal.default_int_handler)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Runs a program while the block lasts, and kills it with all that it started when the block ends.

    The program leads a session of its own. A signal that arrives while it starts counts once it has started:
    an exception out of `Popen` itself would leave a process that nobody knows.

    Args:
        command: the program and its arguments.
        options: as `subprocess.Popen` takes them.
    """
    process: subprocess.Popen[Any] | None = None
    try:
        with _deferred():
            process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent, **options)
        yield process
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout:
                process.stdout.close()


@contextmanager
def _deferred() -> Iterator[None]:
    """Runs the handlers of signals that arrive meanwhile when the block has ended."""
    arrived: list[tuple[int, FrameType | None]] = []
    # Handlers run in the main thread alone, so that no other one is interrupted.
    asks = _ASKS if threading.current_thread() is threading.main_thread() else ()
    before = {signum: handler for signum in asks if callable(handler := signal.getsignal(signum))}
    for signum in before:
        signal.signal(signum, lambda number, frame: arrived.append((number, frame)))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    for number, frame in arrived:
        before[signal.Signals(number)](number, frame)
