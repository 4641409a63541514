"""The guard: with a key set, every request must give it, but for the few that the documents list as open."""

import os

from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import Scope

from dgx_vllm.admission.keys import Keys
from dgx_vllm.admission.names import OPEN_METRICS

# What probes ask, which have no key; SageMaker's ask /ping by POST, too. They start nothing and say nothing.
_OPEN = {"/health": ("GET", "HEAD"), "/ping": ("GET", "HEAD", "POST")}
_METRICS = {"/metrics": ("GET", "HEAD")}


class Guard:
    """vLLM's own check covers some paths; this one covers all, by the path that the router itself will see.

    Args:
        keys: what clients must give.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._open = _OPEN | (_METRICS if os.environ.get(OPEN_METRICS) == "1" else {})

    def admitted(self, scope: Scope) -> Scope | None:
        """The request as it goes on, None where it lacks a key."""
        if not self._keys or self._is_open(scope):
            return scope
        key = self._keys.given(Headers(scope=scope))
        return None if key is None else _with_bearer(scope, key)

    def _is_open(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return False
        headers = Headers(scope=scope)
        # A browser's question before its request carries no key. With these headers, vLLM's CORS middleware
        # answers it, and nothing behind it is asked; /metrics, for one, answers an OPTIONS of any kind.
        if scope["method"] == "OPTIONS":
            return "origin" in headers and "access-control-request-method" in headers
        return scope["method"] in self._open.get(get_route_path(scope), ())


def _with_bearer(scope: Scope, key: str) -> Scope:
    """The key in the only form that vLLM's own check reads."""
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"authorization"]
    return {**scope, "headers": [*others, (b"authorization", b"Bearer " + key.encode("latin-1"))]}
