"""Dense: the linear layers that NVFP4 checkpoints leave in BF16, quantized while they are loaded.

At batch 1 a token costs the bytes of its weights, and two thirds of them are these: of Qwen3-Next-80B, GDN's
in_proj_qkvz, lm_head, and attention's q, k and v. Not wanted: routers and gates, whose few bytes decide which
experts are read; in_proj_ba and Mamba's in_proj, which set how fast a state decays; convolutions and norms;
embeddings, of which a token reads a row; vision. `plugin.dense.method` does it. See docs/dev/decoding.md.
"""

from typing import Any, Literal, cast, get_args

from dgx_vllm.formats import tensor_roles
from dgx_vllm.formats.tensor_roles import Part

Dtype = Literal["bf16", "fp8", "nvfp4"]

#: What is quantized.
PARTS = (
    Part.GDN_IN,
    Part.GDN_OUT,
    Part.ATTENTION_QKV,
    Part.ATTENTION_OUT,
    Part.MLP,
    Part.SHARED_EXPERT,
    Part.LM_HEAD,
    Part.DRAFT_FC,
)

#: In vLLM's additional_config, which reaches every worker and the cache keys of compiled graphs.
_KEY = "dgx_dense_dtype"


def covers(module: str) -> bool:
    """Whether a module is of `PARTS`, by its name in a checkpoint or in vLLM."""
    return tensor_roles.of(f"{module}.weight") in PARTS


def additional_config(dtype: Dtype) -> dict[str, Any] | None:
    """What vLLM's `--additional-config` is given; None where nothing is quantized."""
    return None if dtype == "bf16" else {_KEY: dtype}


def requested(additional_config: object) -> Dtype:
    """The dtype that vLLM's additional_config asks for.

    Raises:
        ValueError: it is none.
    """
    dtype = additional_config.get(_KEY, "bf16") if isinstance(additional_config, dict) else "bf16"
    if dtype not in get_args(Dtype):
        raise ValueError(
            f"additional_config's {_KEY} must be one of {', '.join(get_args(Dtype))}, not {dtype!r}"
        )
    return cast(Dtype, dtype)
