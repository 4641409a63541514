"""The heartbeat: a question that the engine's own loop answers."""

import asyncio

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

# Longer than any caller waits; it keeps a stuck engine from collecting one waiting call a heartbeat.
SECONDS = 60.0


async def heartbeat(scope: Scope) -> Response:
    """200 once the engine has answered, 504 where it is silent, 503 where it is dead."""
    engine = getattr(scope["app"].state, "engine_client", None)
    try:
        if engine is not None:
            # The cheapest question that the engine's loop itself answers, between two steps.
            await asyncio.wait_for(engine.is_sleeping(), SECONDS)
    except TimeoutError:
        return _failed(504, f"the engine has not answered for {SECONDS:g} s")
    except Exception as error:  # a dead engine raises vLLM's own, others its RPC's
        return _failed(503, f"the engine does not answer: {type(error).__name__}")
    return JSONResponse({})


def _failed(status: int, message: str) -> Response:
    error = {"message": message, "type": "ServiceUnavailableError", "param": None, "code": status}
    return JSONResponse({"error": error}, status)
