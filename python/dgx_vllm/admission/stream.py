"""A streamed answer: an error before its first event has a status of its own, a later one an event."""

import asyncio
import contextlib
import json
import logging
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_SECONDS = 10
# What a client may wait for the first line: a slow engine is not an error.
HOLD_SECONDS = 1.0
_ERROR = re.compile(rb"(?:event: error\n)?data: ?(\{.*\})\n\n", re.DOTALL)
_STATUSES = {
    "BadRequestError": 400,
    "NotFoundError": 404,
    "UnprocessableEntityError": 422,
    "ServiceUnavailableError": 503,
}
_logger = logging.getLogger("vllm.dgx_vllm.admission")


async def streamed(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs a request. vLLM answers 200 to a stream before it has looked at what was asked."""
    answer = _Answer(scope, send)
    try:
        await app(scope, receive, answer.send)
    except Exception as error:
        if not await answer.failed(error):
            raise
    finally:
        await answer.close()


class _Answer:
    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._held: Message | None = None  # the start of a stream whose first event is awaited
        self._streams = self._replaced = self._over = False
        self._lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        async with self._lock:
            if self._replaced:
                return
            if message["type"] == "http.response.start":
                await self._start(message)
            else:
                await self._go_on(message)

    async def _start(self, message: Message) -> None:
        headers = MutableHeaders(raw=list(message.get("headers", ())))
        if headers.get("content-type", "").startswith("text/event-stream") and message["status"] == 200:
            self._streams, self._held = True, message
            self._timer = asyncio.create_task(self._release())
            return
        if message["status"] == 503 and "retry-after" not in headers:
            headers["retry-after"] = str(RETRY_SECONDS)
            message = {**message, "headers": headers.raw}
        await self._send(message)

    async def _go_on(self, message: Message) -> None:
        if self._held is not None and message.get("body"):
            error = _error(message["body"])
            if error is not None:
                await self._replace(*error)
                return
        if message.get("body") or not message.get("more_body"):
            await self._flush()
        self._over = not message.get("more_body", False)
        await self._send(message)

    async def _release(self) -> None:
        await asyncio.sleep(HOLD_SECONDS)
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            await self._send(held)

    async def _replace(self, status: int, body: object) -> None:
        """The error as an answer of its own, with the headers that others put in, CORS' among them."""
        assert self._held is not None
        content = json.dumps(body).encode()
        headers = MutableHeaders(raw=list(self._held.get("headers", ())))
        headers["content-type"], headers["content-length"] = "application/json", str(len(content))
        if status == 503:
            headers["retry-after"] = str(RETRY_SECONDS)
        self._held, self._replaced = None, True
        await self._send({"type": "http.response.start", "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": content})

    async def failed(self, error: Exception) -> bool:
        """Tells the client of what broke a stream; False where there is no stream to tell it by."""
        if not self._streams or self._over or self._replaced:
            return False
        from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

        # Starlette wraps what its handlers could have answered, had the stream not begun.
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        told = create_error_response(cause).model_dump()["error"]
        if told["code"] >= 500:
            _logger.error("a stream broke off: %s: %s", type(cause).__name__, told["message"])
        async with self._lock:
            if self._held is not None:
                await self._replace(told["code"], {"error": told})
            else:
                self._over = True
                # As OpenAI's Responses API has it: of vLLM's streams the only one that does not do it itself.
                event = {"type": "error", "code": told["type"], "message": told["message"], "param": None}
                body = f"event: error\ndata: {json.dumps(event)}\n\n".encode()
                await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer


def _error(chunk: bytes) -> tuple[int, object] | None:
    """The status and the body of a stream's first event, where that is an error."""
    match = _ERROR.match(chunk)
    if not match:
        return None
    try:
        event = json.loads(match[1])
    except ValueError:
        return None
    error = event.get("error") if isinstance(event, dict) else None
    if not isinstance(error, dict):
        return None
    code = error.get("code")
    return (code if isinstance(code, int) else _STATUSES.get(str(error.get("type")), 500)), event
