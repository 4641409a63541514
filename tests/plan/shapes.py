"""Configs of models whose figures are known."""

from typing import Any

from dgx_vllm.plan import model, source
from dgx_vllm.plan.model import Model

QWEN3_NEXT: dict[str, Any] = {
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
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "intermediate_size": 5120,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
}

# What ModelOpt leaves in BF16: lm_head, routers, GDN's inputs, q, k and v, the MTP layer.
_GDN = [i for i in range(48) if i % 4 != 3]
_FULL = [i for i in range(48) if i % 4 == 3]
EXCLUDED = [
    "lm_head",
    *(f"model.layers.{i}.mlp.{name}" for i in range(48) for name in ("gate", "shared_expert_gate")),
    *(
        f"model.layers.{i}.linear_attn.{name}"
        for i in _GDN
        for name in ("conv1d", "in_proj_ba", "in_proj_qkvz")
    ),
    *(f"model.layers.{i}.self_attn.{name}_proj" for i in _FULL for name in "qkv"),
    "mtp*",
]
NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16, "ignore": EXCLUDED}
QWEN3_NEXT_NVFP4 = {**QWEN3_NEXT, "quantization_config": NVFP4}


def understood(config: dict[str, Any], **changes: Any) -> Model:
    """A model from its config alone."""
    return model.understand(source.Source("model", {**config, **changes}))
