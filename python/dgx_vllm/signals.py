"""Signals: what asks a program to end is taken as Ctrl-C is, so that what it has started ends with it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
