"""A server of OpenAI's chat API that says what it is told to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Talker:
    """Serves on a free port of this machine.

    Attributes:
        answers: what is said to one question after the other: pieces, each a text, a `("reasoning", text)`,
            an event as it is, or a `threading.Event` to wait for.
        asked: the bodies of the questions so far.
        left: set once a client hung up in the middle of an answer.
        key: what clients must give.
        reason: the finish reason, None for an answer that breaks off.
        status: of the answer.
    """

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()
        self.key: str | None = None
        self.reason: str | None = "stop"
        self.status = 200
        self.models = ["model"]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"talker": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    talker: Talker

    def do_GET(self) -> None:
        if self._allowed():
            self._json(200, {"data": [{"id": name} for name in self.talker.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        self.talker.asked.append(body)
        if self.talker.status != 200:
            self._json(self.talker.status, {"error": {"message": "too  long\nfor me", "type": "BadRequest"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self._say(self.talker.answers.pop(0))
        except OSError:
            self.talker.left.set()

    def _say(self, pieces: list[Any]) -> None:
        self.wfile.write(b": keep-alive\n\n")
        for piece in pieces:
            if isinstance(piece, threading.Event):
                # Writing shows whether anybody still reads.
                while not piece.is_set():
                    time.sleep(0.05)
                    self.wfile.write(b": waiting\n\n")
            elif isinstance(piece, dict):
                self._event(piece)
            else:
                kind, text = piece if isinstance(piece, tuple) else ("content", piece)
                self._event({"choices": [{"delta": {kind: text}, "finish_reason": None}]})
        if self.talker.reason is not None:
            self._event({"choices": [{"delta": {}, "finish_reason": self.talker.reason}]})
            self._event({"choices": [], "usage": {"completion_tokens": len(pieces)}})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: Any) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def _allowed(self) -> bool:
        if self.talker.key and self.headers.get("Authorization") != f"Bearer {self.talker.key}":
            self._json(401, {"error": "Unauthorized"})
            return False
        return True

    def _json(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
