"""Counters: what the middleware refused, among vLLM's own numbers in /metrics."""

from prometheus_client import Counter

SHED = Counter("dgx_vllm_requests_shed", "Requests that were refused with 503 because memory was low.")
UNAUTHORIZED = Counter(
    "dgx_vllm_requests_unauthorized",
    "Requests that were refused with 401 because the key was missing or wrong.",
)
