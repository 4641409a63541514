"""The middleware: a heartbeat that goes through the engine, and 503 while the machine's memory is low."""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dgx_vllm import meminfo

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEARTBEAT = "/dgx-vllm/heartbeat"
"""Answers 200 once the engine's own loop has: vLLM's /health stays at 200 while the engine is stopped."""

SERVER = "DGX_VLLM_SERVER"
"""The variable with a random word that the launcher makes up for its server: who answers it is no other's."""

SERVER_HEADER = "dgx-vllm-server"
"""The header that answers to /health and to the heartbeat carry, with that word."""

HEALTH = "/health"

SHED = "DGX_VLLM_MEMORY_SHED"
"""The variable with the bytes of MemAvailable below which new work is refused; 0 or unset: never."""

# What gives memory back, or ends work, in vLLM's API; what a pause is ended by, which lets no new work in by
# itself; and /ping, which SageMaker asks by POST.
_FREES = re.compile(
    r"/(sleep|pause|resume|release_kv_cache_memory|reset_(prefix|mm|encoder)_cache|(inference/v1/)?abort_requests|ping)"
    r"|/v1/(unload_lora_adapter|responses/[^/]+/cancel)"
)
RETRY_SECONDS = 10
_SAMPLE_SECONDS = 0.25
# Longer than any caller waits; it keeps a stuck engine from collecting one waiting call a heartbeat.
_HEARTBEAT_SECONDS = 60.0


class Admission:
    """ASGI middleware.

    Args:
        app: what is behind it.
        available: MemAvailable in bytes.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        app: App,
        available: Callable[[], int] = meminfo.available,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._available = available
        self._clock = clock
        self._shed_below = int(os.environ.get(SHED) or 0)
        self._server = os.environ.get(SERVER, "").encode()
        self._low = False
        self._sampled = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == HEARTBEAT:
            await _heartbeat(scope, self._named(send))
        elif _path(scope) == HEALTH:
            await self._app(scope, receive, self._named(send))
        elif scope["method"] == "POST" and not _frees(scope) and self._is_low():
            # The body is not read: whoever is refused must not cost memory.
            message = "this machine is low on memory and takes no new requests for now; try again later"
            await _answer(send, 503, message, retry_after=RETRY_SECONDS)
        else:
            await self._app(scope, receive, send)

    def _named(self, send: Send) -> Send:
        """Answers that say whose they are: at this address another server may answer the launcher."""
        if not self._server:
            return send

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (SERVER_HEADER.encode(), self._server)]
                message = {**message, "headers": headers}
            await send(message)

        return named

    def _is_low(self) -> bool:
        if self._shed_below and self._clock() - self._sampled >= _SAMPLE_SECONDS:
            self._sampled = self._clock()
            self._low = self._available() < self._shed_below
        return self._low


def _frees(scope: Scope) -> bool:
    """Whether a request leaves more memory than it found: refused, it would keep the machine short of it."""
    return bool(_FREES.fullmatch(_path(scope)))


def _path(scope: Scope) -> str:
    """The path below `--root-path`."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def _heartbeat(scope: Scope, send: Send) -> None:
    engine = getattr(scope["app"].state, "engine_client", None)
    try:
        if engine is not None:
            # The cheapest question that the engine's loop itself answers, between two steps.
            await asyncio.wait_for(engine.is_sleeping(), _HEARTBEAT_SECONDS)
    except TimeoutError:
        await _answer(send, 504, f"the engine has not answered for {_HEARTBEAT_SECONDS:g} s")
    except Exception as error:  # a dead engine raises vLLM's own, others its RPC's
        await _answer(send, 503, f"the engine does not answer: {type(error).__name__}")
    else:
        await _answer(send, 200, "")


async def _answer(send: Send, status: int, message: str, retry_after: int | None = None) -> None:
    """One response, an error in the shape that OpenAI's clients read."""
    kind = "ServiceUnavailableError"
    error = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    body = json.dumps(error if message else {}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
