"""Configs of published checkpoints that draft, as far as planning reads them.

Those of which a field is not public say which one.
"""

from typing import Any

_QWEN_DRAFT: dict[str, Any] = {
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 248320,
    "max_position_embeddings": 262144,
    "tie_word_embeddings": False,
}

#: z-lab/Qwen3.8-27B-DFlash2.
DFLASH2_27B: dict[str, Any] = {
    **_QWEN_DRAFT,
    "architectures": ["DFlash2DraftModel"],
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_hidden_layers": 5,
    "num_target_layers": 64,
    "layer_types": ["sliding_attention"] * 5,
    "sliding_window": 2048,
    "dflash_config": {
        "block_size": 8,
        "conv_group_size": 16,
        "conv_kernel_size": 2,
        "mask_token_id": 248070,
        "selector_rank": 256,
        "selector_top_k": 16,
        "target_layer_ids": [5, 19, 33, 47, 61],
    },
}

#: z-lab/Qwen3.5-122B-A10B-DFlash.
DFLASH_122B: dict[str, Any] = {
    **_QWEN_DRAFT,
    "architectures": ["DFlashDraftModel"],
    "hidden_size": 3072,
    "intermediate_size": 9216,
    "num_hidden_layers": 6,
    "num_target_layers": 48,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "sliding_window": 4096,
    "dflash_config": {
        "block_size": 16,
        "mask_token_id": 248077,
        "target_layer_ids": [1, 7, 14, 20, 26, 32, 39, 45],
    },
}

#: nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4-DSpark. Which modules are quantized is public, the text
#: of its quantization_config is not.
DSPARK_LIGHTNING: dict[str, Any] = {
    "architectures": ["Qwen3DSparkModel"],
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "block_size": 8,
    "dflash_config": {"causal": True, "mask_token_id": 990, "target_layer_ids": [1, 5, 19, 29, 41, 51]},
    "draft_vocab_size": None,
    "eagle_aux_hidden_state_layer_ids": [2, 6, 20, 30, 42, 52],
    "has_embed_tokens": True,
    "has_lm_head": False,
    "hidden_size": 2688,
    "intermediate_size": 6144,
    "layer_types": ["sliding_attention"] * 6,
    "markov_rank": 512,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "num_hidden_layers": 6,
    "head_dim": 128,
    "sample_from_anchor": False,
    "sliding_window": 1024,
    "vocab_size": 131072,
    "max_position_embeddings": 1048576,
    "quantization_config": {
        "quant_method": "modelopt",
        "quant_algo": "W4A16_NVFP4",
        "group_size": 16,
        "ignore": ["*self_attn*", "embed_tokens", "lm_head"],
    },
}

#: nvidia/gpt-oss-120b-Eagle3-long-context: its matrices' shapes are public, most fields are taken from them.
EAGLE3_GPT_OSS: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 2880,
    "intermediate_size": 17280,
    "num_hidden_layers": 1,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "draft_vocab_size": 201088,
    "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 17, 32], "use_aux_hidden_state": True},
}

#: A gpt-oss-20b speculator in the speculators library's form.
EAGLE3_SPECULATORS: dict[str, Any] = {
    "architectures": ["Eagle3Speculator"],
    "speculators_model_type": "eagle3",
    "draft_vocab_size": 32000,
    "norm_before_fc": True,
    "target_hidden_size": None,
    "speculators_config": {
        "algorithm": "eagle3",
        "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 5}],
        "verifier": {"name_or_path": "openai/gpt-oss-20b"},
    },
    "transformer_layer_config": {
        "model_type": "llama",
        "head_dim": 64,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "num_hidden_layers": 1,
        "torch_dtype": "bfloat16",
        "vocab_size": 201088,
    },
}
