"""Mistral: the params.json of Mistral's own format, by the names that config.json has for the same.

As vLLM 0.32 adapts it (transformers_utils/configs/mistral.py), but for the model_type: vLLM has none that
says what the model is, unless it is a Mamba.
"""

from collections.abc import Mapping
from typing import Any

from dgx_vllm.checkpoints.fields import language_part

_NAMES = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
}
_EXPERTS = {
    "expert_hidden_dim": "moe_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
    "num_expert_groups": "n_group",
    "num_expert_groups_per_tok": "topk_group",
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "routed_scale": "routed_scaling_factor",
    "route_every_n": "moe_layer_freq",
}
#: Of a model whose params.json does not say, and has no config.json that does.
_POSITIONS = 128_000


def adapted(params: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A config by config.json's names.

    Args:
        params: what params.json holds.
        beside: what a config.json in the same place holds; vLLM asks it for what params.json does not say.
    """
    config = {_NAMES.get(name, name): value for name, value in params.items()}
    config.setdefault("max_position_embeddings", _positions(beside or {}))
    config |= _experts(config)
    config |= _windows(config)
    config |= _quantization(config)
    multimodal = config.get("multimodal")
    vision = config.get("vision_encoder") or (
        multimodal.get("vision_encoder_args") if isinstance(multimodal, Mapping) else None
    )
    if not vision:
        return config
    whole: dict[str, Any] = {"model_type": "pixtral", "text_config": config, "vision_config": vision}
    if "quantization_config" in config:
        whole["quantization_config"] = config["quantization_config"]
    return whole


def _positions(config: Mapping[str, Any]) -> int:
    positions = language_part(config).get("max_position_embeddings")
    return positions if isinstance(positions, int) else _POSITIONS


def _experts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's kind, and its experts by the names of that kind."""
    if config.get("model_type") == "mamba":
        return {"architectures": ["Mamba2ForCausalLM"]}
    moe = config.get("moe")
    if not isinstance(moe, Mapping):
        kind = "deepseek_v3" if config.get("qk_nope_head_dim") else "mistral"
        return {"model_type": kind, "architectures": ["MistralForCausalLM"]}
    if moe.get("num_shared_experts") or config.get("qk_nope_head_dim"):
        named = {_EXPERTS[name]: value for name, value in moe.items() if name in _EXPERTS}
        return {"model_type": "deepseek_v3", "architectures": ["MistralLarge3ForCausalLM"], **named}
    return {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": moe.get("num_experts"),
        "num_experts_per_tok": moe.get("num_experts_per_tok"),
    }


def _windows(config: Mapping[str, Any]) -> dict[str, Any]:
    """Layers that see a window alone: one for all, or a list that the layers go through again and again."""
    window, layers = config.get("sliding_window"), config.get("num_hidden_layers")
    if not isinstance(layers, int) or not window:
        return {}
    each = window if isinstance(window, list) else [window]
    kinds = ["full_attention" if width is None else "sliding_attention" for width in each]
    return {
        "sliding_window": next((width for width in each if width), None),
        "layer_types": (kinds * (layers // len(kinds) + 1))[:layers],
    }


def _quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    quantization = config.get("quantization")
    if not isinstance(quantization, Mapping) or not quantization:
        return {}
    if quantization.get("qformat_weight") == "fp8_e4m3":
        dynamic = quantization.get("qscheme_act") == "NO_SCALES"
        fields = {"quant_method": "fp8", "activation_scheme": "dynamic" if dynamic else "static"}
        return {"quantization_config": fields}
    method = str(quantization.get("quant_method", "")).lower().replace("_", "-")
    return {"quantization_config": {**quantization, "quant_method": method}}
