"""The shape of vLLM's own: an annotated table whose keys are the variables that it reads."""

import os
from collections.abc import Callable
from typing import Any


def _port() -> int | None:
    return int(os.environ["VLLM_PORT"]) if "VLLM_PORT" in os.environ else None


def _sync_check() -> str | None:
    value = os.getenv("VLLM_GPU_SYNC_CHECK")
    if value not in (None, "warn", "error"):
        raise ValueError(f"Invalid value '{value}' for it. Valid options: ['warn', 'error'].")
    return value


environment_variables: dict[str, Callable[[], Any]] = {
    "VLLM_CACHE_ROOT": lambda: None,
    "VLLM_CONFIG_ROOT": lambda: None,
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": lambda: None,
    "VLLM_API_KEY": lambda: None,
    "VLLM_CPU_KVCACHE_SPACE": lambda: None,
    "VLLM_ENABLE_STARTUP_PLAN": lambda: None,
    "VLLM_LOGGING_LEVEL": lambda: None,
    "VLLM_RPC_BASE_PATH": lambda: None,
    "VLLM_NO_USAGE_STATS": lambda: None,
    "VLLM_PORT": _port,
    "VLLM_GPU_SYNC_CHECK": _sync_check,
    "VLLM_LOG_STATS_INTERVAL": lambda: float(os.getenv("VLLM_LOG_STATS_INTERVAL", "10.")),
    "VERBOSE": lambda: bool(int(os.getenv("VERBOSE", "0"))),
    "MAX_JOBS": lambda: None,
}
