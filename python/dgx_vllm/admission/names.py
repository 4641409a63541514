"""Names that the launcher and the middleware share: a path, a header and variables."""

HEARTBEAT = "/dgx-vllm/heartbeat"
"""Answers 200 once the engine's own loop has: vLLM's /health stays at 200 while the engine is stopped."""

SERVER = "DGX_VLLM_SERVER"
"""The variable with a random word that the launcher makes up for its server: who answers it is no other's."""

SERVER_HEADER = "dgx-vllm-server"
"""The header that answers to /health and to the heartbeat carry, with that word."""

SHED = "DGX_VLLM_MEMORY_SHED"
"""The variable with the bytes of MemAvailable below which new work is refused; 0 or unset: never."""

OPEN_METRICS = "DGX_VLLM_OPEN_METRICS"
"""The variable that opens /metrics to requests without a key where it is 1."""

CONTROL = "DGX_VLLM_CONTROL"
"""The variable with the path of a Unix socket for the launcher, where clients must show certificates."""
