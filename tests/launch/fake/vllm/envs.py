"""The shape of vLLM's own: an annotated table whose keys are the variables that it reads."""

from collections.abc import Callable
from typing import Any

environment_variables: dict[str, Callable[[], Any]] = {
    "VLLM_CACHE_ROOT": lambda: None,
    "VLLM_CONFIG_ROOT": lambda: None,
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": lambda: None,
    "VLLM_API_KEY": lambda: None,
    "VLLM_CPU_KVCACHE_SPACE": lambda: None,
    "VLLM_LOGGING_LEVEL": lambda: None,
    "VLLM_NO_USAGE_STATS": lambda: None,
    "MAX_JOBS": lambda: None,
}
