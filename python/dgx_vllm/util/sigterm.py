"""Ending: SIGTERM ends a download at once, also where the interpreter waits for a name server."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STATUS = 128 + signal.SIGTERM


@contextmanager
def on_sigterm(said: str) -> Iterator[None]:
    """While this lasts, SIGTERM says a line and ends the process with status 143.

    Python runs signal handlers between two steps of the main thread, which getaddrinfo can hold for half a
    minute. The number of the signal reaches a thread at once, and nothing has to be put away: parts are
    written without a buffer, and locks end with the process.

    Args:
        said: the line, to standard error.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, said), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        signal.signal(signal.SIGTERM, handler)
        writer.close()
        thread.join()
        reader.close()


def _watch(reader: socket.socket, said: str) -> None:
    while numbers := reader.recv(1):
        if numbers[0] == signal.SIGTERM:
            print(said, file=sys.stderr, flush=True)
            os._exit(STATUS)
