"""One request to the middleware, without a server: what it answers, or that it lets it through."""

import asyncio
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

from dgx_vllm.admission.middleware import Admission

#: vLLM's arguments that the middleware reads, as they are where nobody gives them.
ARGUMENTS = Namespace(
    api_key=None, allowed_origins=["*"], allow_credentials=False, allowed_methods=["*"], allowed_headers=["*"]
)


async def behind(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "reached"})


def ask(
    admission: Admission,
    method: str,
    path: str,
    engine: Any = None,
    kind: str = "http",
    root: str = "",
    headers: dict[str, str] | None = None,
    **arguments: Any,
) -> list[Any]:
    """What one request is answered: the ASGI messages. Keywords are vLLM's arguments."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body of a refused request is not read")

    async def send(message: Any) -> None:
        sent.append("reached" if message == {"type": "reached"} else message)

    args = Namespace(**{**vars(ARGUMENTS), **arguments})
    app = SimpleNamespace(state=SimpleNamespace(engine_client=engine, args=args))
    given = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {"type": kind, "method": method, "path": path, "root_path": root, "app": app, "headers": given}
    asyncio.run(admission(scope, receive, send))
    return sent
