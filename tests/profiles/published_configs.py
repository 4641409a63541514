"""The fields of published models' config.json that vLLM and planning read, by Hugging Face id.

What a rule writes in full in the files, such as the kinds of 64 layers, is a rule here too. Sources: the
configs that NVIDIA's aiconfigurator holds (Qwen3.5-122B, Qwen3.6-35B, Gemma 4), openai's on the hub (gpt-
oss), vllm.cpp's tests (DFlash2, Nemotron-3.5-Lightning), a census of shard headers (Nemotron-3-Super),
Atlas's tests (DSpark). Of Qwen3.8-27B the text of the file was not found: sizes are its base model's, and
its quantization follows from its 401 quantized layers and from the bytes of its files.
"""

from typing import Any

_E4M3 = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}


def _every(kind: str, other: str, period: int, layers: int) -> list[str]:
    """`other` in each layer but the last of each period."""
    return [kind if index % period == period - 1 else other for index in range(layers)]


def _nvfp4(ignore: list[str]) -> dict[str, Any]:
    """ModelOpt's, with a KV cache in FP8."""
    group = {"input_activations": _E4M3, "weights": _E4M3, "targets": ["Linear"]}
    return {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "config_groups": {"group_0": group},
        "ignore": ignore,
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "producer": {"name": "modelopt"},
    }


def _vision(out: int, kind: str) -> dict[str, Any]:
    """The tower of Qwen3.5 and its successors."""
    return {
        "model_type": kind,
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "in_channels": 3,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "num_position_embeddings": 2304,
        "out_hidden_size": out,
        "hidden_act": "gelu_pytorch_tanh",
        "deepstack_visual_indexes": [],
        "initializer_range": 0.02,
        "dtype": "bfloat16",
    }


_QWEN_TOKENS = {
    "image_token_id": 248056,
    "video_token_id": 248057,
    "vision_start_token_id": 248053,
    "vision_end_token_id": 248054,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
_QWEN_TEXT = {
    "dtype": "bfloat16",
    "vocab_size": 248320,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_output_gate": True,
    "eos_token_id": 248044,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "mtp_num_hidden_layers": 1,
    "mtp_use_dedicated_embeddings": False,
    "partial_rotary_factor": 0.25,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [11, 11, 10],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": False,
    "use_cache": True,
}


def _qwen38_27b() -> dict[str, Any]:
    kinds = _every("full_attention", "linear_attention", 4, 64)
    fp8 = {"quant_algo": "FP8"}
    layers: dict[str, Any] = {"lm_head": {"quant_algo": "NVFP4", "group_size": 16}}
    for index, kind in enumerate(kinds):
        prefix = f"model.language_model.layers.{index}"
        attention = [f"self_attn.{name}_proj" for name in "qkvo"]
        delta_net = [f"linear_attn.{name}" for name in ("in_proj_qkv", "in_proj_z", "out_proj")]
        names = attention if kind == "full_attention" else delta_net
        layers |= {f"{prefix}.{name}": fp8 for name in names}
        for name in ("gate", "up", "down"):
            layers[f"{prefix}.mlp.{name}_proj"] = {"quant_algo": "NVFP4", "group_size": 16}
    assert len(layers) == 401
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        **_QWEN_TOKENS,
        "language_model_only": False,
        "text_config": {
            **_QWEN_TEXT,
            "model_type": "qwen3_5_text",
            "hidden_size": 5120,
            "intermediate_size": 17408,
            "num_hidden_layers": 64,
            "num_attention_heads": 24,
            "num_key_value_heads": 4,
            "linear_num_value_heads": 48,
            "layer_types": kinds,
            "output_gate_type": "swish",
        },
        "vision_config": _vision(5120, "qwen3_5"),
        "quantization_config": {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "kv_cache_quant_algo": None,
            "ignore": ["mtp*", "mtp.layers.0*"],
            "quantized_layers": layers,
            "producer": {"name": "modelopt"},
        },
    }


def _qwen36_35b() -> dict[str, Any]:
    kinds = _every("full_attention", "linear_attention", 4, 40)
    fp8, nvfp4 = {"quant_algo": "FP8"}, {"quant_algo": "W4A16_NVFP4", "group_size": 16}
    layers: dict[str, Any] = {"lm_head": nvfp4}
    for index, kind in enumerate(kinds):
        prefix = f"model.language_model.layers.{index}"
        attention = [f"self_attn.{name}_proj" for name in "qkvo"]
        delta_net = [f"linear_attn.{name}" for name in ("in_proj_qkv", "in_proj_z", "out_proj")]
        names = attention if kind == "full_attention" else delta_net
        layers |= {f"{prefix}.{name}": fp8 for name in names}
        shared = [f"mlp.shared_expert.{name}_proj" for name in ("gate", "up", "down")]
        layers |= {f"{prefix}.{name}": nvfp4 for name in ("mlp.experts", *shared)}
    assert len(layers) == 291
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        **_QWEN_TOKENS,
        "text_config": {
            **_QWEN_TEXT,
            "model_type": "qwen3_5_moe_text",
            "hidden_size": 2048,
            "num_hidden_layers": 40,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "linear_num_value_heads": 32,
            "layer_types": kinds,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        },
        "vision_config": _vision(2048, "qwen3_5_moe_vision"),
        "quantization_config": {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            # hf_quant_config.json has an FP8 KV cache; vLLM reads this file alone.
            "ignore": ["mtp*", "mtp.layers.0*"],
            "quantized_layers": layers,
            "producer": {"name": "modelopt"},
        },
    }


def _qwen35_122b() -> dict[str, Any]:
    kinds = _every("full_attention", "linear_attention", 4, 48)
    ignore = ["lm_head", "model.visual*", "mtp*", "mtp.layers.0*"]
    for index, kind in enumerate(kinds):
        prefix = f"model.language_model.layers.{index}"
        ignore.append(f"{prefix}.{'self_attn' if kind == 'full_attention' else 'linear_attn'}*")
        # The router, `mlp.gate`, is BF16 in the files, although the list does not have it.
        ignore += [f"{prefix}.mlp.shared_expert*", f"{prefix}.mlp.shared_expert_gate"]
    assert len(ignore) == 148
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "model_type": "qwen3_5_moe",
        **_QWEN_TOKENS,
        "text_config": {
            **_QWEN_TEXT,
            "model_type": "qwen3_5_moe_text",
            "hidden_size": 3072,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 2,
            "linear_num_value_heads": 64,
            "layer_types": kinds,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 1024,
            "shared_expert_intermediate_size": 1024,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        },
        "vision_config": _vision(3072, "qwen3_5_moe_vision"),
        "quantization_config": _nvfp4(ignore),
    }


def _gemma4_26b() -> dict[str, Any]:
    ignore = ["lm_head", "model.embed_vision*", "model.vision_tower*"]
    for index in range(30):
        ignore += [f"model.language_model.layers.{index}.{part}*" for part in ("mlp", "router", "self_attn")]
    assert len(ignore) == 93
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "dtype": "bfloat16",
        "audio_config": None,
        "audio_token_id": 258881,
        "boa_token_id": 256000,
        "boi_token_id": 255999,
        "eoa_token_id": 258883,
        "eoa_token_index": 258883,
        "eoi_token_id": 258882,
        "eos_token_id": [1, 106],
        "image_token_id": 258880,
        "video_token_id": 258884,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "vision_soft_tokens_per_image": 280,
        "text_config": {
            "model_type": "gemma4_text",
            "dtype": "bfloat16",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attention_k_eq_v": True,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "enable_moe_block": True,
            "final_logit_softcapping": 30.0,
            "global_head_dim": 512,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2816,
            "hidden_size_per_layer_input": 0,
            "initializer_range": 0.02,
            "intermediate_size": 2112,
            "layer_types": _every("full_attention", "sliding_attention", 6, 30),
            "max_position_embeddings": 262144,
            "moe_intermediate_size": 704,
            "num_attention_heads": 16,
            "num_experts": 128,
            "num_global_key_value_heads": 2,
            "num_hidden_layers": 30,
            "num_key_value_heads": 8,
            "num_kv_shared_layers": 0,
            "rms_norm_eps": 1e-06,
            "rope_parameters": {
                "full_attention": {
                    "partial_rotary_factor": 0.25,
                    "rope_theta": 1000000.0,
                    "rope_type": "proportional",
                },
                "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
            },
            "sliding_window": 1024,
            "tie_word_embeddings": True,
            "top_k_experts": 8,
            "use_bidirectional_attention": "vision",
            "use_cache": True,
            "use_double_wide_mlp": False,
            "vocab_size": 262144,
            "vocab_size_per_layer_input": 262144,
        },
        "vision_config": {
            "model_type": "gemma4_vision",
            "dtype": "bfloat16",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "default_output_length": 280,
            "global_head_dim": 72,
            "head_dim": 72,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 1152,
            "initializer_range": 0.02,
            "intermediate_size": 4304,
            "max_position_embeddings": 131072,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "num_key_value_heads": 16,
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "position_embedding_size": 10240,
            "rms_norm_eps": 1e-06,
            "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
            "standardize": True,
            "use_clipped_linears": False,
        },
        "quantization_config": _nvfp4(ignore),
    }


def _gpt_oss(layers: int, experts: int) -> dict[str, Any]:
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": 200002,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 2880,
        "layer_types": _every("full_attention", "sliding_attention", 2, layers),
        "max_position_embeddings": 131072,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "num_local_experts": experts,
        "output_router_logits": False,
        "pad_token_id": 199999,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": 201088,
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
        },
    }


def _dflash2() -> dict[str, Any]:
    return {
        "architectures": ["DFlash2DraftModel"],
        "model_type": "qwen3",
        "dtype": "bfloat16",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "is_causal": False,
        "dflash_config": {
            "block_size": 8,
            "conv_group_size": 16,
            "conv_kernel_size": 2,
            "mask_token_id": 248070,
            "selector_rank": 256,
            "selector_top_k": 16,
            "target_layer_ids": [5, 19, 33, 47, 61],
        },
        "eos_token_id": 248044,
        "pad_token_id": 248044,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 5120,
        "initializer_range": 0.02,
        "intermediate_size": 17408,
        "layer_types": ["sliding_attention"] * 5,
        "max_position_embeddings": 262144,
        "max_window_layers": 5,
        "num_attention_heads": 32,
        "num_hidden_layers": 5,
        "num_key_value_heads": 8,
        "num_target_layers": 64,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 10000000, "rope_type": "default"},
        "sliding_window": 2048,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_sliding_window": True,
        "vocab_size": 248320,
    }


def _nemotron(**own: Any) -> dict[str, Any]:
    return {
        "architectures": ["NemotronHForCausalLM"],
        "model_type": "nemotron_h",
        "dtype": "bfloat16",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "chunk_size": 128,
        "conv_kernel": 4,
        "expand": 2,
        "head_dim": 128,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "mamba_head_dim": 64,
        "mamba_hidden_act": "silu",
        "mamba_proj_bias": False,
        "mamba_ssm_cache_dtype": "float32",
        "mlp_bias": False,
        "mlp_hidden_act": "relu2",
        "n_group": 1,
        "n_groups": 8,
        "n_shared_experts": 1,
        "norm_eps": 1e-05,
        "norm_topk_prob": True,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "num_logits_to_keep": 1,
        "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 1.0,
        "rescale_prenorm_residual": True,
        "residual_in_fp32": False,
        "rope_theta": 10000,
        "sliding_window": None,
        "ssm_state_size": 128,
        "tie_word_embeddings": False,
        "time_step_floor": 0.0001,
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "topk_group": 1,
        "use_bias": False,
        "use_cache": True,
        "use_conv_bias": True,
        "use_mamba_kernels": True,
        "vocab_size": 131072,
        **own,
    }


def _mixed(layers: dict[str, Any], ignore: list[str]) -> dict[str, Any]:
    return {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "producer": {"name": "modelopt"},
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "ignore": ignore,
        "quantized_layers": layers,
    }


def _lightning() -> dict[str, Any]:
    kinds = {"M": "mamba", "E": "moe", "*": "attention"}
    pattern = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
    fp8, nvfp4 = {"quant_algo": "FP8"}, {"quant_algo": "W4A16_NVFP4", "group_size": 16}
    layers: dict[str, Any] = {"lm_head": nvfp4}
    ignore = ["backbone.embeddings", "mtp*"]
    for index, kind in enumerate(pattern):
        mixer = f"backbone.layers.{index}.mixer"
        if kind == "M":
            layers |= {f"{mixer}.{name}_proj": fp8 for name in ("in", "out")}
            ignore.append(f"{mixer}.conv1d")
        elif kind == "E":
            experts = [f"experts.{expert}" for expert in range(128)]
            names = [
                f"{name}.{side}_proj" for name in (*experts, "shared_experts") for side in ("up", "down")
            ]
            layers |= {f"{mixer}.{name}": nvfp4 for name in names}
            ignore.append(f"{mixer}.gate")
        else:
            ignore += [f"{mixer}.{name}_proj" for name in "qkvo"]
    assert (len(layers), len(ignore)) == (5981, 72)
    return _nemotron(
        hidden_size=2688,
        intermediate_size=1856,
        layers_block_type=[kinds[kind] for kind in pattern],
        mamba_num_heads=64,
        max_position_embeddings=1048576,
        moe_intermediate_size=1856,
        moe_latent_size=None,
        moe_shared_expert_intermediate_size=3712,
        moe_shared_expert_overlap=True,
        mtp_layers_block_type=["attention", "moe"],
        n_routed_experts=128,
        num_experts_per_tok=6,
        num_hidden_layers=52,
        routed_scaling_factor=2.5,
        quantization_config=_mixed(layers, ignore),
    )


#: Layers of Nemotron-3-Super that are FP8, by the census of its shard headers.
_SUPER_FP8: dict[str, tuple[int, ...]] = {
    "in_proj": (
        0,
        2,
        4,
        6,
        9,
        11,
        13,
        15,
        18,
        20,
        27,
        29,
        31,
        40,
        49,
        51,
        53,
        55,
        57,
        60,
        62,
        66,
        68,
        71,
        73,
        82,
        84,
        86,
    ),
    "out_proj": (
        0,
        2,
        4,
        9,
        11,
        13,
        18,
        38,
        40,
        42,
        44,
        49,
        51,
        53,
        55,
        57,
        60,
        62,
        64,
        66,
        68,
        71,
        73,
        75,
        77,
        80,
        82,
        84,
        86,
    ),
    "shared_experts.up_proj": (
        1,
        3,
        5,
        8,
        10,
        12,
        14,
        17,
        19,
        21,
        23,
        26,
        28,
        30,
        32,
        34,
        37,
        39,
        43,
        45,
        48,
        50,
        52,
        54,
        56,
        59,
        61,
        63,
        65,
        67,
        70,
        72,
        74,
        76,
        79,
        81,
        83,
        85,
        87,
    ),
    "shared_experts.down_proj": (
        3,
        5,
        10,
        12,
        14,
        17,
        19,
        21,
        23,
        26,
        28,
        30,
        32,
        34,
        37,
        39,
        41,
        43,
        45,
        48,
        50,
        52,
        54,
        56,
        59,
        61,
        63,
        65,
        67,
        70,
        72,
        74,
        79,
        81,
        83,
        85,
        87,
    ),
    "fc1_latent_proj": (
        1,
        3,
        5,
    ),
    "fc2_latent_proj": (3,),
    "o_proj": (
        69,
        78,
    ),
}


def _super() -> dict[str, Any]:
    pattern = "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
    nvfp4 = {"quant_algo": "NVFP4", "group_size": 16}
    layers: dict[str, Any] = {"backbone.layers.1.mixer.shared_experts.down_proj": nvfp4}
    for index in (index for index, kind in enumerate(pattern) if kind == "E"):
        for expert in range(512):
            mixer = f"backbone.layers.{index}.mixer.experts.{expert}"
            layers |= {f"{mixer}.up_proj": nvfp4, f"{mixer}.down_proj": nvfp4}
    for name, indices in _SUPER_FP8.items():
        layers |= {f"backbone.layers.{index}.mixer.{name}": {"quant_algo": "FP8"} for index in indices}
    assert len(layers) == 41100
    return _nemotron(
        auto_map={
            "AutoConfig": "configuration_nemotron_h.NemotronHConfig",
            "AutoModelForCausalLM": "modeling_nemotron_h.NemotronHForCausalLM",
        },
        hidden_size=4096,
        hybrid_override_pattern=pattern,
        intermediate_size=2688,
        mamba_num_heads=128,
        max_position_embeddings=262144,
        moe_intermediate_size=2688,
        moe_latent_size=1024,
        moe_shared_expert_intermediate_size=5376,
        moe_shared_expert_overlap=False,
        mtp_hybrid_override_pattern="*E",
        n_routed_experts=512,
        num_experts_per_tok=22,
        num_hidden_layers=88,
        routed_scaling_factor=5.0,
        quantization_config=_mixed(layers, []),
    )


def _dspark() -> dict[str, Any]:
    return {
        "architectures": ["Qwen3DSparkModel"],
        "model_type": "qwen3",
        "dtype": "bfloat16",
        "attention_bias": False,
        "attention_sink_bias": True,
        "block_size": 8,
        "dflash_config": {
            "attention_sink_bias": True,
            "causal": True,
            "mask_token_id": 990,
            "swa_window_size": 1024,
            "target_layer_ids": [1, 5, 19, 29, 41, 51],
            "use_swa": True,
            "sample_from_anchor": False,
        },
        "dflash_query_causal": True,
        "draft_vocab_size": None,
        "dspark_bonus_anchor": True,
        "dspark_fixup_head_type": "markov",
        "dspark_markov_rank": 512,
        "eagle_aux_hidden_state_layer_ids": [2, 6, 20, 30, 42, 52],
        "has_embed_tokens": True,
        "has_lm_head": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2688,
        "intermediate_size": 6144,
        "layer_types": ["sliding_attention"] * 6,
        "markov_head_type": "vanilla",
        "markov_rank": 512,
        "mask_token_id": 990,
        "max_position_embeddings": 1048576,
        "num_attention_heads": 32,
        "num_aux_layers": 6,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "pard_token": 990,
        "rms_norm_eps": 1e-06,
        "rope_parameters": None,
        "rope_theta": 10000,
        "sample_from_anchor": False,
        "sliding_window": 1024,
        "target_layer_ids": [1, 5, 19, 29, 41, 51],
        "train_embed_tokens": False,
        "use_cache": False,
        "vocab_size": 131072,
        "quantization_config": {
            "quant_method": "modelopt",
            "quant_algo": "W4A16_NVFP4",
            "kv_cache_quant_algo": None,
            "group_size": 16,
            "ignore": ["embed_tokens", "lm_head", "*self_attn*", "*markov_w1*"],
        },
    }


CONFIGS: dict[str, dict[str, Any]] = {
    "nvidia/Qwen3.8-27B-NVFP4": _qwen38_27b(),
    "nvidia/Qwen3.5-122B-A10B-NVFP4": _qwen35_122b(),
    "nvidia/Qwen3.6-35B-A3B-NVFP4": _qwen36_35b(),
    "nvidia/Gemma-4-26B-A4B-NVFP4": _gemma4_26b(),
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4": _lightning(),
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": _super(),
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4-DSpark": _dspark(),
    "openai/gpt-oss-120b": _gpt_oss(36, 128),
    "openai/gpt-oss-20b": _gpt_oss(24, 32),
    "z-lab/Qwen3.8-27B-DFlash2": _dflash2(),
}
