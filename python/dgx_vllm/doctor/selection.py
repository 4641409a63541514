"""vLLM's own answer to which backends it selects; run as a program, since it imports torch and vLLM.

Prints one line of JSON: for each kind of layer `backend` and `passed_over`, the names that rank higher and
were refused; or `error`.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from vllm.platforms import current_platform

# Qwen3-Next-80B-A3B's dimensions (its config.json).
_HEAD_SIZE = 256
_HIDDEN = 2048
_INTERMEDIATE = 512
_EXPERTS = 512
_EXPERTS_PER_TOKEN = 10


def main() -> None:
    """Prints the answers."""
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    print(json.dumps(answers()))


def answers() -> dict[str, dict[str, Any]]:
    """All of them, on the platform that vLLM is on."""
    return {
        "linear": _try(linear),
        "moe": _try(moe),
        "attention": _try(lambda: attention("auto")),
        "attention-fp8": _try(lambda: attention("fp8")),
    }


def linear() -> dict[str, Any]:
    """The kernel for a W4A4 linear layer."""
    from vllm.model_executor.kernels import linear as kernels

    chosen = type(kernels.init_nvfp4_linear_kernel()).__name__
    ranked = [kernel.__name__ for kernel in kernels._POSSIBLE_NVFP4_KERNELS[current_platform._enum]]
    return {"backend": chosen, "passed_over": ranked[: ranked.index(chosen)] if chosen in ranked else []}


def moe() -> dict[str, Any]:
    """The backend for W4A4 experts with SiLU, on one GPU."""
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.config import (
        FusedMoEConfig,
        FusedMoEParallelConfig,
        RoutingMethodType,
    )
    from vllm.model_executor.layers.fused_moe.oracle.nvfp4 import select_nvfp4_moe_backend
    from vllm.model_executor.layers.quantization.utils.quant_utils import kNvfp4Dynamic, kNvfp4Static

    config = FusedMoEConfig(
        num_experts=_EXPERTS,
        experts_per_token=_EXPERTS_PER_TOKEN,
        hidden_dim=_HIDDEN,
        intermediate_size=_INTERMEDIATE,
        num_local_experts=_EXPERTS,
        num_logical_experts=_EXPERTS,
        activation=MoEActivation.SILU,
        device=current_platform.device_type,
        routing_method=RoutingMethodType.Renormalize,
        moe_parallel_config=FusedMoEParallelConfig.make_no_parallel(),
        in_dtype=torch.bfloat16,
    )
    backend, _ = select_nvfp4_moe_backend(config, kNvfp4Static, kNvfp4Dynamic)
    return {"backend": backend.value, "passed_over": []}


def attention(kv_cache: Any) -> dict[str, Any]:
    """The backend for a decoder's attention with a KV cache of this type."""
    from vllm.v1.attention.selector import AttentionSelectorConfig

    config = AttentionSelectorConfig(
        head_size=_HEAD_SIZE, dtype=torch.bfloat16, kv_cache_dtype=kv_cache, block_size=None
    )
    unforced: Any = None  # the platforms' annotations disagree on whether it may be
    path = current_platform.get_attn_backend_cls(unforced, config)
    module, _, name = path.rpartition(".")
    backend = getattr(__import__(module, fromlist=[name]), name).get_name()
    return {"backend": backend, "passed_over": []}


def _try(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return question()
    except Exception as error:  # whatever vLLM says no with is the answer
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}


if __name__ == "__main__":
    main()
