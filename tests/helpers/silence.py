"""A hub that takes connections and says nothing, or next to nothing."""

import contextlib
import socket
import threading
from collections.abc import Iterator

#: Seconds between two letters.
PAUSE = 0.05


@contextlib.contextmanager
def silent_hub(trickles: bool) -> Iterator[str]:
    """Its address. One that trickles sends a header without an end, a letter at a time."""
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: " if trickles else b"")
            while not ended.wait(PAUSE):
                if trickles:
                    connection.sendall(b"a")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
