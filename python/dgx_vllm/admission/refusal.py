"""A refusal: one error in the form that the client at this path reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette._utils import get_route_path
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

# OpenAI's name, as vLLM uses it, and Anthropic's.
_KINDS = {
    401: ("AuthenticationError", "authentication_error"),
    404: ("NotFoundError", "not_found_error"),
    503: ("ServiceUnavailableError", "overloaded_error"),
}


@dataclass(frozen=True)
class Refusal:
    """An answer without the server.

    Args:
        status: of HTTP, 401, 404 or 503.
        message: for people.
        headers: more of them.
    """

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers. The body is not read: a refused client must not cost memory."""
        if scope["type"] == "websocket":
            await self._close(scope, send)
            return
        app = JSONResponse(self.body(scope), self.status, dict(self.headers))
        args = getattr(scope["app"].state, "args", None)
        if args is None:
            await app(scope, receive, send)
            return
        # vLLM's own is further inside. Without its headers a browser's script sees no more than a failure.
        shared = CORSMiddleware(
            app,
            allow_origins=args.allowed_origins,
            allow_credentials=args.allow_credentials,
            allow_methods=args.allowed_methods,
            allow_headers=args.allowed_headers,
        )
        await shared(scope, receive, send)

    def body(self, scope: Scope) -> dict[str, object]:
        """The error in Anthropic's form at its paths, else in OpenAI's."""
        openai, anthropic = _KINDS[self.status]
        path = get_route_path(scope)
        if path == "/v1/messages" or path.startswith("/v1/messages/"):
            return {"type": "error", "error": {"type": anthropic, "message": self.message}}
        return {"error": {"message": self.message, "type": openai, "param": None, "code": self.status}}

    async def _close(self, scope: Scope, send: Send) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": self.message})
            return
        answer = JSONResponse(self.body(scope), self.status, dict(self.headers))
        start = {"status": self.status, "headers": answer.raw_headers}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": answer.body})
