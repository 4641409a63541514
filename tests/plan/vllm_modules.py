"""vLLM's own modules of every architecture in its registry, built without memory from small configs.

A config is the architecture's class in transformers or vLLM with few layers. Where the class lacks fields
that vLLM's model reads, or where it comes with a checkpoint's remote code, `ANY` fills in: fields by all
names that models know, of one small model.
"""

import collections
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto import modeling_auto
from vllm.config import CacheConfig, ModelConfig, VllmConfig
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.transformers_utils.config import _CONFIG_REGISTRY
from vllm.utils.torch_utils import set_default_torch_dtype

from dgx_vllm.plan.generic import EXPERTS, PER_TOKEN

#: Architectures that a server loads by themselves. Drafters are built from the model that they draft for, and
#: transformers' backends stand for no architecture of their own.
SERVED = {
    name
    for name in registry._VLLM_MODELS
    if name not in registry._SPECULATIVE_DECODING_MODELS and name not in registry._TRANSFORMERS_BACKEND_MODELS
}

ANY: dict[str, Any] = {
    **{"hidden_size": 64, "num_hidden_layers": 2, "num_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 128, "vocab_size": 256},
    **{"rms_norm_eps": 1e-6, "layer_norm_eps": 1e-6, "layer_norm_epsilon": 1e-6, "layernorm_epsilon": 1e-6},
    **{"norm_eps": 1e-6, "hidden_act": "silu", "activation_function": "silu", "use_cache": True},
    **{"max_position_embeddings": 4096, "max_position_embedding": 4096, "seq_length": 4096},
    **{"rope_theta": 10000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    **{"rope_scaling": None, "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False},
    **{"bias": False, "use_bias": False, "use_qkv_bias": False, "use_qk_norm": True, "qk_layernorm": False},
    **{"num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "moe_num_experts": 4},
    **{"num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_top_k": 2, "moe_k": 2},
    **{"moe_intermediate_size": 32, "expert_hidden_dim": 32, "num_shared_experts": 1, "n_shared_experts": 1},
    **{"moe_shared_expert_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    **{"first_k_dense_replace": 1, "norm_topk_prob": True, "n_group": 1, "topk_group": 1},
    **{"routed_scaling_factor": 1.0, "scoring_func": "softmax", "score_func": "softmax"},
    **{"score_function": "softmax", "topk_method": "greedy", "moe_layer_freq": 1, "route_scale": 1.0},
    **{"moe_router_enable_expert_bias": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
    **{"multi_query_attention": True, "multi_query_group_num": 2, "kv_channels": 16},
    **{"ffn_hidden_size": 128, "add_bias_linear": False, "add_qkv_bias": True, "rmsnorm": True},
    **{"post_layer_norm": True, "apply_residual_connection_post_layernorm": False},
    **{"fp32_residual_connection": False, "original_rope": True, "rotary_dim": 16, "use_mup": False},
    **{"scale_emb": 1, "scale_depth": 1.0, "dim_model_base": 64, "num_attention_groups": 2},
    **{"query_pre_attn_scalar": 16, "position_embedding_type": "absolute", "type_vocab_size": 2},
    **{"output_router_logits": False, "router_bias": False, "use_sliding_window": False},
    **{"sliding_window": None, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16},
    **{"qk_rope_head_dim": 8, "v_head_dim": 16, "att_impl_type": "GQA", "layer_group_size": 2},
    **{"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "block_dim": 64, "pooling": "avg"},
    **{"embedding_dropout": 0.0, "output_dropout": 0.0, "route_norm": True, "mup_enabled": False},
    **{"short_conv_kernel_size": 4, "padded_vocab_size": 256, "norm_bias": False, "zero_expert_num": 0},
    **{"zero_expert_type": "identity", "partial_rotary_factor": 1.0, "hc_count": 2, "hc_eps": 1e-6},
    **{"n_layer": 2, "n_head": 4, "embedding_size": 256, "attn_res_block_size": 2},
    **{"short_conv": False, "share_q_dim": 64, "share_expert_dim": 32, "attention_other_setting": None},
    **{"moe_num_shared_experts": 1, "use_moe": True, "no_rope_layers": [], "vocab_multiple": 1},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0},
}


_MIMO_V2 = {
    **{"hybrid_layer_pattern": [0, 1, 1, 0], "moe_layer_freq": [0, 1, 1, 1], "sliding_window_size": 128},
    **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "swa_v_head_dim": 16},
    **{"swa_rope_theta": 10000.0, "attention_value_scale": 1.0, "add_swa_attention_sink_bias": False},
    **{"add_full_attention_sink_bias": False},
}

#: Fields that one architecture alone reads, or reads otherwise than others.
OWN: dict[str, dict[str, Any]] = {
    "BailingMoeV3ForCausalLM": {"no_kda_lora": True},
    "ColBERTJinaRobertaModel": {"position_embedding_type": "rotary"},
    "GLM4VForCausalLM": {"hidden_dropout": 0.0},
    # Its language model's checkpoint names it; without a name vLLM takes transformers' modules.
    "KimiVLForConditionalGeneration": {"architectures": ["DeepseekV3ForCausalLM"]},
    "Lfm2MoeForCausalLM": {"layer_types": ["full_attention", "conv", "full_attention", "conv"]},
    "MiMoV2FlashForCausalLM": _MIMO_V2,
    "MiMoV2ForCausalLM": _MIMO_V2,
    "NemotronHForCausalLM": {"layers_block_type": ["mamba", "attention", "mlp", "mamba"]},
    "Plamo3ForCausalLM": {"interleaved_sliding_window": [None, 128]},
    "Step3TextForCausalLM": {"norm_expert_weight": True, "moe_layers_enum": "1,2,3"},
    "K2HorizonForCausalLM": {"mova_num_experts": 4, "mova_num_experts_per_tok": 2},
}

#: Of vision and audio towers.
TOWER: dict[str, Any] = {
    **{"output_dim": 64, "downsample_factor": 4, "image_size": 224, "embed_dim": 64, "patch_size": 14},
    **{"deepstack_visual_indexes": [1], "vision_feature_layer": -1},
}


#: Models that compute a table as they are built, which a small one may do for real.
REAL = ("BloomForCausalLM",)


class AnyConfig(PretrainedConfig):
    """A config that takes every field."""

    model_type = "any"


class UnbuiltError(Exception):
    """vLLM's model cannot be built here."""


def config_types() -> Mapping[str, list[str]]:
    """model_types by architecture, as transformers pairs them."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for name, mapping in vars(modeling_auto).items():
        if name.endswith("_MAPPING_NAMES") and hasattr(mapping, "items"):
            for model_type, architectures in mapping.items():
                for each in [architectures] if isinstance(architectures, str) else architectures:
                    found[each].append(model_type)
    return found


#: Classes of vLLM's own, and architectures that share one.
_TYPES = {
    "BagelForConditionalGeneration": "bagel",
    "BailingMoeV3VLForConditionalGeneration": "bailing_moe_v3_vl",
    "ChatGLMForConditionalGeneration": "chatglm",
    "ChatGLMModel": "chatglm",
    "ColBERTLfm2Model": "lfm2",
    "ColBERTModernBertModel": "modernbert",
    "ColQwen3": "colqwen3",
    "DeepseekV41ForCausalLM": "deepseek_v41",
    "DeepseekVLV2ForCausalLM": "deepseek_vl_v2",
    "DeepseekOCRForCausalLM": "deepseek_vl_v2",
    "DotsOCRForCausalLM": "dots_ocr",
    "Dots3NoteForCausalLM": "dots3_note",
    "ExaoneMoEForCausalLM": "exaone_moe",
    "FunAudioChatForConditionalGeneration": "funaudiochat",
    "Glm5NextForCausalLM": "glm5_next_text",
    "IsaacForConditionalGeneration": "isaac",
    "KimiK25ForConditionalGeneration": "kimi_k25",
    "KimiK3ForConditionalGeneration": "kimi_k3",
    "KimiVLForConditionalGeneration": "kimi_vl",
    "LightOnOCRForConditionalGeneration": "lighton_ocr",
    "MiDashengLMModel": "midashenglm",
    "MiMoV2ForCausalLM": "mimo_v2_flash",
    "MiniMaxM3SparseForCausalLM": "minimax_m3_vl_text",
    "MossTranscribeDiarizeForConditionalGeneration": "moss_transcribe_diarize",
    "MuseGlimmerForCausalLM": "muse_glimmer_text",
    "OpenVLAForActionPrediction": "openvla",
    "Ovis": "ovis",
    "Qwen2_5OmniModel": "qwen2_5_omni",
    "Qwen3_5ForCausalLM": "qwen3_5_text",
    "Qwen3_5MoeForCausalLM": "qwen3_5_moe_text",
    "Qwen3ASRForcedAlignerForTokenClassification": "qwen3_asr",
    "Qwen3ASRRealtimeGeneration": "qwen3_asr",
    "Rnj1ForCausalLM": "gemma3_text",
    "Step3TextForCausalLM": "step3_text",
    "Step3VLForConditionalGeneration": "step3_vl",
    "Step3p5ForCausalLM": "step3p5",
    "UltravoxModel": "ultravox",
    "UnlimitedOCRForCausalLM": "unlimited_ocr",
    "VoxtralRealtimeGeneration": "voxtral_realtime",
}

TYPES = config_types()


def candidates(architecture: str) -> list[dict[str, Any]]:
    """Configs from which vLLM may be able to build the architecture, the likeliest first."""
    found = []
    own = [_TYPES[architecture]] if architecture in _TYPES else []
    model_types = [*dict.fromkeys([*own, *TYPES.get(architecture, [])])]
    for model_type in model_types:
        try:
            cls = _CONFIG_REGISTRY.get(model_type) and _CONFIG_REGISTRY[model_type]
            config = _few_layers(cls or CONFIG_MAPPING[model_type])
        except Exception:  # a class that makes nothing of its own defaults
            continue
        fields = json.loads(json.dumps(config.to_dict(), default=str))
        found += [fields] if architecture not in OWN else []
        found.append(_completed(fields, architecture))
    found.append({**ANY, **OWN.get(architecture, {}), "model_type": "any"})
    return [{**copy.deepcopy(fields), "architectures": [architecture]} for fields in found]


def _completed(fields: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """A class's fields, and `ANY` for those that it lacks, in its parts as well."""
    said = {name: value for name, value in fields.items() if value is not None}
    for name, part in said.items():
        if name in ("text_config", "thinker_config", "llm_config", "language_config") and part:
            said[name] = _completed(part, architecture)
        elif isinstance(part, dict) and name in ("vision_config", "audio_config"):
            said[name] = {**TOWER, **part}
    if "text_config" in said or "thinker_config" in said:
        return said
    # Names that stand for one another: a class maps some of them to one attribute.
    more = {
        name: value
        for name, value in ANY.items()
        if not any(name in names and not said.keys().isdisjoint(names) for names in (EXPERTS, PER_TOKEN))
    }
    return {**more, **said, **OWN.get(architecture, {})}


def _few_layers(cls: Any) -> Any:
    """A class's defaults, with few layers where it takes them so."""
    default = cls()
    if default.get_text_config() is not default:
        return default
    try:
        return cls(num_hidden_layers=4)
    except Exception:  # lists of layers that are longer
        return default


def build(architecture: str, directory: Path) -> tuple[dict[str, Any], torch.nn.Module, VllmConfig]:
    """The first config that vLLM builds the architecture from, and what it builds.

    Raises:
        UnbuiltError: there is none.
    """
    _CONFIG_REGISTRY[AnyConfig.model_type] = AnyConfig
    causes = []
    for fields in candidates(architecture):
        (directory / "config.json").write_text(json.dumps(fields))
        try:
            model = ModelConfig(
                str(directory), tokenizer=str(directory), skip_tokenizer_init=True, dtype="bfloat16",
                enforce_eager=True,
            )  # fmt: skip
            # EngineArgs.create_engine_config sets a window for all layers, if none is of another kind.
            kinds = set(getattr(model.hf_text_config, "layer_types", None) or ["sliding_attention"])
            window = model.get_sliding_window() if kinds == {"sliding_attention"} else None
            cache = CacheConfig(sliding_window=window)
            config = VllmConfig(model_config=model, cache_config=cache)
            device = "cpu" if architecture in REAL and fields["model_type"] == "any" else "meta"
            with torch.device(device), set_default_torch_dtype(torch.bfloat16):
                return fields, initialize_model(vllm_config=config), config
        except Exception as error:
            causes.append(f"{type(error).__name__}: {error}")
    raise UnbuiltError("; ".join(causes))
