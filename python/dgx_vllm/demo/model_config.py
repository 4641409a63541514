"""The shape of the demo model: Qwen3-Next, small.

Every kind of layer of the real model is there, in the real order (three Gated DeltaNet layers, then one of
gated full attention; each followed by routed experts and a shared expert; one MTP layer). Sizes are the
smallest that vLLM's kernels accept on both backends: attention heads of 64, DeltaNet heads of 32 (the CPU
kernels' vector width), rows and columns of quantized matrices in multiples of 128.
"""

from typing import Any

from transformers import Qwen3NextConfig

#: Rows of the embedding table; the tokenizer fills it exactly.
VOCAB_SIZE = 512
#: Longest sequence that the checkpoint claims to handle.
MAX_POSITIONS = 1024

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "full_attention_interval": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
    "intermediate_size": 128,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": MAX_POSITIONS,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "use_cache": True,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}


def config_json(bos_token_id: int, eos_token_id: int) -> dict[str, Any]:
    """The checkpoint's config.json, with the keys that Qwen3-Next's own has."""
    return {
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "dtype": "bfloat16",
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        **_SIZES,
    }


def model_config() -> Qwen3NextConfig:
    """The same as a transformers config, for training in float32."""
    return Qwen3NextConfig(**_SIZES)
