"""Dense: the projections that NVFP4 checkpoints leave in BF16, quantized while they are loaded.

At batch 1 a token costs the bytes of its weights, and most of them are these: 53% of what Qwen3-Next-80B
reads are GDN's in_proj_qkvz and attention's q, k and v. vLLM 0.32 quantizes layers online beside a quantized
checkpoint (`--quantization-config`, `quantization/online/base.py`), one at a time, without a second copy.
Not among them, since vLLM leaves it alone: lm_head. Not wanted: routers and gates, whose few bytes decide
which experts are read, and convolutions.
"""

from typing import Any, Literal

Dtype = Literal["bf16", "fp8"]

#: vLLM matches the shards of a layer that it fuses by their own names.
_LAYERS = (r"re:.*\.linear_attn\.in_proj_(qkvz|qkv|z)$", r"re:.*\.self_attn\.[qkv]_proj$")
#: E4M3, a scale for each output channel; activations are quantized for each token.
_FP8 = "fp8_per_channel"


def quantization(dtype: Dtype) -> dict[str, Any] | None:
    """What vLLM's `--quantization-config` is given; None where nothing is quantized."""
    return None if dtype == "bf16" else {"targets": dict.fromkeys(_LAYERS, _FP8)}
