"""Admission: what dgx-vllm puts in front of vLLM's API, as the ASGI middleware that `--middleware` names.

It runs in the API server's process, outside of everything that vLLM does with a request.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgx_vllm.admission.middleware import Admission

__all__ = ["Admission"]


def __getattr__(name: str) -> Any:
    """The middleware, imported when it is asked for: the launcher reads `names` alone, and has no server."""
    if name != "Admission":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dgx_vllm.admission.middleware import Admission

    return Admission
