"""Ending: SIGTERM ends a download at once, also where the interpreter waits for a name server."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dgx_vllm.util.messages import say_line

STATUS = 128 + signal.SIGTERM


@contextmanager
def on_sigterm(line: str) -> Iterator[None]:
    """While this lasts, SIGTERM says a line and ends the process with status 143.

    Python runs signal handlers between two steps of the main thread, which getaddrinfo can hold for half a
    minute. The number of the signal reaches a thread at once, and nothing has to be put away: parts are
    written without a buffer, and locks end with the process.

    Args:
        line: printed to standard error.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, line), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        signal.signal(signal.SIGTERM, handler)
        writer.close()
        thread.join()
        reader.close()


def _watch(reader: socket.socket, line: str) -> None:
    while numbers := reader.recv(1):
        if numbers[0] == signal.SIGTERM:
            say_line(line)
            os._exit(STATUS)
