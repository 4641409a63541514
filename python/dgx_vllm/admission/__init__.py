"""Admission: the ASGI middleware that dgx-vllm puts in front of vLLM's API, by the flag `--middleware`.

It runs in the API server's process, and sees each request before vLLM does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgx_vllm.admission.middleware import Admission

__all__ = ["Admission"]


def __getattr__(name: str) -> Any:
    """The middleware, imported on first use: the launcher reads only `names`, and runs no server."""
    if name != "Admission":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dgx_vllm.admission.middleware import Admission

    return Admission
