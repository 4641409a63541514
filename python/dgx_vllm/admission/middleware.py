"""The middleware: the key, a heartbeat that goes through the engine, and 503 while memory is low."""

import logging
import os
import time
from collections.abc import Callable

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from dgx_vllm.admission import counters
from dgx_vllm.admission.control import Control
from dgx_vllm.admission.heartbeat import heartbeat
from dgx_vllm.admission.key_guard import Guard
from dgx_vllm.admission.keys import Keys
from dgx_vllm.admission.memory_gate import Memory, is_new_work
from dgx_vllm.admission.names import CONTROL, HEARTBEAT, SERVER, SHED
from dgx_vllm.admission.refusal import Refusal
from dgx_vllm.admission.signature import signed
from dgx_vllm.admission.stream import streamed
from dgx_vllm.host import meminfo

RETRY_SECONDS = 10
# vLLM answers GET alone there, and 405 to the HEAD of `curl -I`, `wget --spider` and load balancers.
_PROBED = ("/health", "/ping")
_NO_KEY = Refusal(
    401,
    "this server requires its API key: send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'",
    {"WWW-Authenticate": "Bearer"},
)
_NO_WEBSOCKET = Refusal(404, "there is no websocket at this path")
_STOPPING = Refusal(
    503,
    "this server is stopping and takes no new requests; try again later",
    {"Retry-After": str(RETRY_SECONDS)},
)
_LOW = Refusal(
    503,
    "this machine is low on memory and takes no new requests for now; try again later",
    {"Retry-After": str(RETRY_SECONDS)},
)


class Admission:
    """ASGI middleware.

    Args:
        app: what is behind it.
        available: MemAvailable in bytes.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        app: ASGIApp,
        available: Callable[[], int] = meminfo.available,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._memory = Memory(int(os.environ.get(SHED) or 0), available, clock)
        self._server = os.environ.get(SERVER, "")
        self._guard: Guard | None = None
        self._control = Control(os.environ[CONTROL]) if os.environ.get(CONTROL) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._live(scope, receive, send)
            return
        if self._guard is None:  # vLLM makes the middleware before it has a place for its arguments
            self._guard = Guard(Keys.of_server(scope["app"].state.args))
        path, admitted = get_route_path(scope), self._guard.admitted(scope)
        if admitted is None:
            counters.UNAUTHORIZED.inc()
            await _NO_KEY(scope, receive, send)
        elif scope["type"] == "websocket":
            # The Prometheus client's app, which is mounted there, fails at one.
            metrics = path == "/metrics" or path.startswith("/metrics/")
            await (_NO_WEBSOCKET if metrics else self._app)(admitted, receive, send)
        elif scope["method"] == "HEAD" and path in _PROBED:
            await self._app({**admitted, "method": "GET"}, receive, signed(send, self._server))
        elif path == HEARTBEAT:
            answer = await heartbeat(scope)
            await answer(scope, receive, signed(send, self._server))
        elif path == "/health":
            await self._app(admitted, receive, signed(send, self._server))
        elif not is_new_work(scope):
            await self._app(admitted, receive, send)
        elif getattr(scope["app"].state, "stopping", False):
            await _STOPPING(scope, receive, send)
        elif self._memory.is_low:
            counters.SHED.inc()
            await _LOW(scope, receive, send)
        else:
            await streamed(self._app, admitted, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's own life, from start to end, and the control socket's with it."""
        if self._control is None:
            await self._app(scope, receive, send)
            return
        try:
            await self._control.start(scope["app"])
        except OSError as error:  # clients are served all the same
            logging.getLogger("vllm.dgx_vllm").error("cannot create the control socket: %s", error)
        try:
            await self._app(scope, receive, send)
        finally:
            self._control.stop()
