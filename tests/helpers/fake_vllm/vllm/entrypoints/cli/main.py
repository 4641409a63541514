"""`vllm serve` in a hundred lines. FAKE_VLLM holds its behaviour as JSON:

    healthy_by      a file: /health answers once it is there
    listen_after    seconds until it listens at the port that it has bound
    health_after    seconds until /health answers
    token_after     seconds that the first completion takes
    exit_after      seconds until it ends by itself, with exit_status, or by the signal exit_signal
    last_words      what it writes to standard error before that
    deaf            it ignores SIGTERM and SIGINT
    chat            whether it has a chat template (true)
    text            whether it generates text at all (true)
    stuck_after     seconds until its engine is silent
    beats           heartbeats that its engine answers before it is silent
    drain           seconds that it still runs after SIGTERM; its engine takes no heartbeat then
    child           it starts a process that outlives it
    key             the API key that it asks for
    fails           what completions are answered by path, [status, headers]; "ids" for those of token ids
    fails_until     how many completions fail so, all if left out
    asgi            it serves by uvicorn, with TLS and the middleware that its flags name
    stranger        a file from whose existence on it does not say whose server it is
    chatter         lines of a hundred bytes that it writes to standard error before it answers
    metrics         what /metrics answers

FAKE_VLLM_RECORD names a directory for what it was started with, when it produced its first token and when it
had drained.
"""

import contextlib
import itertools
import json
import math
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_BEHAVIOUR: dict[str, Any] = json.loads(os.environ.get("FAKE_VLLM", "{}"))
_STARTED = time.monotonic()
_DRAINING = threading.Event()
_ASKED: list[str] = []
_BEATS = itertools.count()


def _record(name: str, content: Any) -> None:
    directory = os.environ.get("FAKE_VLLM_RECORD")
    if directory:
        Path(directory, name).write_text(json.dumps(content))


def _flag(name: str, default: str | None = None) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            late = time.monotonic() - _STARTED < _BEHAVIOUR.get("health_after", 0)
            late |= "healthy_by" in _BEHAVIOUR and not os.path.exists(_BEHAVIOUR["healthy_by"])
            self._answer(503 if late else 200, {})
        elif self.path == "/dgx-vllm/heartbeat":  # what the launcher's middleware answers
            stuck = time.monotonic() - _STARTED > _BEHAVIOUR.get("stuck_after", math.inf)
            stuck |= next(_BEATS) >= _BEHAVIOUR.get("beats", math.inf)
            self._answer(503 if _DRAINING.is_set() else 504 if stuck else 200, {})
        elif self.path == "/metrics" and "metrics" in _BEHAVIOUR:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(_BEHAVIOUR["metrics"].encode())
        elif self.path == "/v1/models" and self._allowed():
            self._answer(200, {"data": [{"id": _flag("--served-model-name", "fake")}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        _record(f"asked{len(_ASKED)}.json", [time.time(), self.path])
        _ASKED.append(self.path)
        chat = self.path == "/v1/chat/completions"
        kind = "ids" if isinstance(body.get("prompt"), list) else self.path
        failing = _BEHAVIOUR.get("fails", {}).get(kind)
        if failing and len(_ASKED) <= _BEHAVIOUR.get("fails_until", 10**9):
            self._answer(failing[0], {"error": {"message": "as it was told"}}, failing[1])
            return
        if not _BEHAVIOUR.get("text", True):
            self._answer(404, {"error": "not found"})
        elif chat and not _BEHAVIOUR.get("chat", True):
            self._answer(400, {"error": "no chat template"})
        else:
            time.sleep(_BEHAVIOUR.get("token_after", 0))
            _record("token.json", time.time())
            text = f"{body['max_tokens']} tokens from {self.path}"
            self._answer(
                200, {"choices": [{"text": text}], "usage": {"completion_tokens": body["max_tokens"]}}
            )

    def _allowed(self) -> bool:
        key = _BEHAVIOUR.get("key")
        if key and self.headers.get("Authorization") != f"Bearer {key}":
            self._answer(401, {"error": "unauthorized"})
            return False
        return True

    def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        payload = json.dumps(body).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            strange = "stranger" in _BEHAVIOUR and Path(_BEHAVIOUR["stranger"]).exists()
            if self.path in ("/health", "/dgx-vllm/heartbeat") and not strange:
                self.send_header("dgx-vllm-server", os.environ.get("DGX_VLLM_SERVER", ""))
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "client"


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def _server() -> socketserver.BaseServer:
    path = _flag("--uds")
    if path:
        return _UnixServer(path, _Handler)
    host = _flag("--host", "127.0.0.1") or ""
    ThreadingHTTPServer.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # As vLLM does: bound early, listening late.
    server = ThreadingHTTPServer((host, int(_flag("--port", "8000") or 0)), _Handler, bind_and_activate=False)
    server.server_bind()
    _record("bound.json", time.time())
    time.sleep(_BEHAVIOUR.get("listen_after", 0))
    server.server_activate()
    return server


def _serve_asgi() -> None:
    """The part of vLLM that serves: its middleware and TLS are the real ones."""
    import asyncio
    import importlib
    from argparse import Namespace

    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()
    app.state.args = Namespace(api_key=None)
    app.get("/health")(lambda: None)
    app.get("/v1/models")(lambda: {"data": [{"id": "fake"}]})
    app.post("/v1/chat/completions")(lambda: {"usage": {"completion_tokens": 1}})
    module, _, name = (_flag("--middleware") or "").rpartition(".")
    app.add_middleware(getattr(importlib.import_module(module), name))
    reqs = int(_flag("--ssl-cert-reqs", "0") or 0)
    tls = {each: _flag(f"--ssl-{each.replace('_', '-')}") for each in ("keyfile", "certfile", "ca_certs")}
    host, port = _flag("--host"), int(_flag("--port", "8000") or 0)
    where = {"uds": _flag("--uds")} if _flag("--uds") else {"host": host, "port": port}
    config = uvicorn.Config(
        app, ssl_cert_reqs=reqs, **{f"ssl_{name}": path for name, path in tls.items()}, **where
    )

    async def serve() -> None:
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        task = asyncio.ensure_future(server.serve())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(serve())


def _end() -> None:
    sys.stderr.write(_BEHAVIOUR.get("last_words", ""))
    sys.stderr.flush()
    if "exit_signal" in _BEHAVIOUR:
        os.kill(os.getpid(), _BEHAVIOUR["exit_signal"])
        time.sleep(10)  # the signal may arrive a moment later
    os._exit(_BEHAVIOUR.get("exit_status", 0))


def _drain(*_: Any) -> None:
    if not _BEHAVIOUR.get("drain"):
        os._exit(0)
    _DRAINING.set()
    threading.Timer(_BEHAVIOUR["drain"], _drained).start()


def _drained() -> None:
    _record("drained.json", time.time())
    os._exit(0)


def main() -> None:
    _record("argv.json", sys.orig_argv)
    _record("environ.json", dict(os.environ))
    print("fake vLLM: one line of log", flush=True)
    if _BEHAVIOUR.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        _record("child.json", child.pid)
    for _ in range(_BEHAVIOUR.get("chatter", 0)):
        sys.stderr.write(f"{'chatter':.>99}\n")
    sys.stderr.flush()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN if _BEHAVIOUR.get("deaf") else _drain)
    if "exit_after" in _BEHAVIOUR:
        threading.Timer(_BEHAVIOUR["exit_after"], _end).start()
    if _BEHAVIOUR.get("asgi"):
        _serve_asgi()
        return
    _server().serve_forever()


if __name__ == "__main__":
    main()
