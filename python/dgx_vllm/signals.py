"""Signals: what asks a program to end ends what it has started too."""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Asks the kernel to end this process if its parent is killed: an orphan would hold the GPU's memory.

    For `subprocess.Popen`'s preexec_fn.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def as_interrupt() -> Iterator[None]:
    """While this lasts, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    A SIGHUP that is ignored, as nohup has it, stays so.
    """
    asked = [signal.SIGTERM, signal.SIGHUP]
    before = {each: signal.getsignal(each) for each in asked if signal.getsignal(each) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, signal.default_int_handler)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
