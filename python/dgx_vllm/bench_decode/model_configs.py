"""Shapes: configs of real models, for runs with random weights on a machine that has none of their files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dgx_vllm.util.errors import UserError

_QWEN3_NEXT: dict[str, Any] = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "dtype": "bfloat16",
    "vocab_size": 151936,
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "full_attention_interval": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "norm_topk_prob": True,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "intermediate_size": 5120,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": 262144,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-06,
    "hidden_act": "silu",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "use_cache": True,
    "router_aux_loss_coef": 0.001,
}
#: By name: a config without its quantization, and how many layers it has for each with full attention.
_SHAPES = {"qwen3-next-80b-a3b": _QWEN3_NEXT}

NAMES = tuple(_SHAPES)


def config(name: str, layers: int | None = None) -> dict[str, Any]:
    """A model's config.json with ModelOpt's NVFP4 quantization.

    Args:
        name: one of `NAMES`.
        layers: how many of the model's layers there are, all by default.

    Raises:
        UserError: more layers than the model has, or none.
    """
    shape = dict(_SHAPES[name])
    most, every = shape["num_hidden_layers"], shape["full_attention_interval"]
    count = most if layers is None else layers
    if not 0 < count <= most or count % every:
        raise UserError(f"--layers {count}: {name} has {most}, and every {every}th differs; give a multiple")
    full = [i % every == every - 1 for i in range(count)]
    scheme = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    return shape | {
        "num_hidden_layers": count,
        "layer_types": ["full_attention" if is_full else "linear_attention" for is_full in full],
        "quantization_config": {
            "quant_method": "modelopt",
            "quant_algo": "NVFP4",
            "config_groups": {
                "group_0": {"input_activations": scheme, "weights": scheme, "targets": ["Linear"]}
            },
            "ignore": ["lm_head", "mtp*", *_excluded(full)],
            "producer": {"name": "modelopt", "version": "0.33.0"},
        },
    }


def _excluded(full: list[bool]) -> Iterator[str]:
    """Every layer in full: vLLM 0.32 matches the parts of a fused layer by their whole names only."""
    for i, attention in enumerate(full):
        prefix = f"model.layers.{i}"
        yield from (f"{prefix}.mlp.{leaf}" for leaf in ("gate", "shared_expert_gate"))
        if attention:
            yield from (f"{prefix}.self_attn.{leaf}_proj" for leaf in "qkv")
        else:
            yield from (f"{prefix}.linear_attn.{leaf}" for leaf in ("conv1d", "in_proj_ba", "in_proj_qkvz"))


def write(directory: Path, name: str, layers: int | None = None) -> Path:
    """Writes a model's config.json into a directory that exists, and returns the directory."""
    (directory / "config.json").write_text(json.dumps(config(name, layers), indent=1))
    return directory
