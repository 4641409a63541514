"""Admission: what dgx-vllm puts in front of vLLM's API, as the ASGI middleware that `--middleware` names.

It runs in the API server's process, outside of everything that vLLM does with a request.
"""

from dgx_vllm.admission.middleware import Admission

__all__ = ["Admission"]
