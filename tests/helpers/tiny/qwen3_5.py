"""Qwen3.5 as Qwen3.8-27B has it: dense, three layers of linear attention to one of full attention, MTP.

ModelOpt's mixed precision as in nvidia/Qwen3.8-27B-NVFP4: NVFP4 for the dense layers and the output head, FP8
per tensor for attention and the large projections of linear attention, BF16 for the rest and for the draft.
"""

from pathlib import Path
from typing import Any

import torch

from helpers.tiny.drawing import VOCABULARY, Drawing, Format

HIDDEN, INTERMEDIATE, LAYERS = 128, 256, 4
HEADS, KV_HEADS, HEAD = 4, 2, 64
KEY_HEADS, VALUE_HEADS, GDN_HEAD, CONVOLUTION = 2, 4, 64, 4
VISION, VISION_INNER, PATCH, MERGE, TEMPORAL, POSITIONS = 32, 64, 4, 2, 2, 16
_PREFIX = "model.language_model"


def write(directory: Path, seed: int = 0) -> Path:
    """The checkpoint with its tokenizer. Returns the directory."""
    drawing = Drawing(seed)
    embedding = drawing.embedding(HIDDEN)
    drawing.put(f"{_PREFIX}.embed_tokens.weight", embedding)
    for layer in range(LAYERS):
        name = f"{_PREFIX}.layers.{layer}"
        if layer % 4 == 3:
            attention(drawing, f"{name}.self_attn", "fp8")
        else:
            linear_attention(drawing, f"{name}.linear_attn", "fp8")
        dense(drawing, f"{name}.mlp", "nvfp4")
        layer_norms(drawing, name)
    drawing.put(f"{_PREFIX}.norm.weight", torch.zeros(HIDDEN))
    drawing.store("lm_head", drawing.output(embedding), "nvfp4")
    mtp(drawing)
    dense(drawing, "mtp.layers.0.mlp", "bf16", gain=0.3)
    vision(drawing)
    quantization = _quantization(drawing)
    return drawing.write(
        directory,
        config() | {"quantization_config": {"quant_method": "modelopt", **quantization}},
        hf_quant_config={"producer": {"name": "modelopt"}, "quantization": quantization},
    )


def config() -> dict[str, Any]:
    """config.json without its quantization."""
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "dtype": "bfloat16",
        "image_token_id": VOCABULARY - 1,
        "language_model_only": False,
        "model_type": "qwen3_5",
        "text_config": text_config("qwen3_5_text") | {"intermediate_size": INTERMEDIATE},
        "tie_word_embeddings": False,
        "video_token_id": VOCABULARY - 2,
        "vision_config": vision_config("qwen3_5"),
        "vision_end_token_id": VOCABULARY - 3,
        "vision_start_token_id": VOCABULARY - 4,
    }


def text_config(model_type: str) -> dict[str, Any]:
    """What the dense model and the one with experts share."""
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "bos_token_id": None,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "full_attention_interval": 4,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "layer_types": ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(LAYERS)],
        "linear_conv_kernel_dim": CONVOLUTION,
        "linear_key_head_dim": GDN_HEAD,
        "linear_num_key_heads": KEY_HEADS,
        "linear_num_value_heads": VALUE_HEADS,
        "linear_value_head_dim": GDN_HEAD,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 1024,
        "mlp_only_layers": [],
        "model_type": model_type,
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": None,
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [3, 3, 2],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def vision_config(model_type: str) -> dict[str, Any]:
    """One layer of the vision tower."""
    return {
        "deepstack_visual_indexes": [],
        "depth": 1,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": VISION,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": VISION_INNER,
        "model_type": model_type,
        "num_heads": 2,
        "num_position_embeddings": POSITIONS,
        "out_hidden_size": HIDDEN,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL,
    }


def attention(drawing: Drawing, name: str, store: Format, gain: float = 1.5) -> None:
    """Full attention, with a gate for each query."""
    drawing.matrix(f"{name}.q_proj", 2 * HEADS * HEAD, HIDDEN, 1.5, store)
    drawing.matrix(f"{name}.k_proj", KV_HEADS * HEAD, HIDDEN, 1.5, store)
    drawing.matrix(f"{name}.v_proj", KV_HEADS * HEAD, HIDDEN, 1.5, store)
    drawing.matrix(f"{name}.o_proj", HIDDEN, HEADS * HEAD, gain, store)
    # Nought stands for one.
    drawing.put(f"{name}.q_norm.weight", drawing.normal(HEAD) / 10)
    drawing.put(f"{name}.k_norm.weight", drawing.normal(HEAD) / 10)


def linear_attention(drawing: Drawing, name: str, store: Format) -> None:
    """A gated delta net whose state fades over some ten tokens."""
    keys, values = KEY_HEADS * GDN_HEAD, VALUE_HEADS * GDN_HEAD
    drawing.matrix(f"{name}.in_proj_qkv", 2 * keys + values, HIDDEN, 1, store)
    drawing.matrix(f"{name}.in_proj_z", values, HIDDEN, 1, store)
    drawing.matrix(f"{name}.in_proj_b", VALUE_HEADS, HIDDEN)
    drawing.matrix(f"{name}.in_proj_a", VALUE_HEADS, HIDDEN)
    drawing.put(f"{name}.conv1d.weight", drawing.normal(2 * keys + values, 1, CONVOLUTION) / 2)
    drawing.put(f"{name}.A_log", drawing.normal(VALUE_HEADS) / 2 - 2)
    drawing.put(f"{name}.dt_bias", drawing.normal(VALUE_HEADS) / 2)
    drawing.put(f"{name}.norm.weight", 1 + drawing.normal(GDN_HEAD) / 10)
    drawing.matrix(f"{name}.out_proj", HIDDEN, values, 1, store)


def dense(
    drawing: Drawing, name: str, store: Format, intermediate: int = INTERMEDIATE, gain: float = 1
) -> None:
    """A gated dense layer."""
    drawing.matrix(f"{name}.gate_proj", intermediate, HIDDEN, 1, store)
    drawing.matrix(f"{name}.up_proj", intermediate, HIDDEN, 1, store)
    drawing.matrix(f"{name}.down_proj", HIDDEN, intermediate, gain, store)


def layer_norms(drawing: Drawing, name: str) -> None:
    """The two norms of a layer; nought stands for one."""
    for norm in ("input_layernorm", "post_attention_layernorm"):
        drawing.put(f"{name}.{norm}.weight", drawing.normal(HIDDEN) / 10)


def mtp(drawing: Drawing) -> None:
    """The draft but its dense layer or experts: it passes the embedding of the newest token on."""
    own = torch.eye(HIDDEN) + drawing.normal(HIDDEN, HIDDEN) * 0.02
    drawing.store("mtp.fc", torch.cat([own, drawing.normal(HIDDEN, HIDDEN) * 0.02], 1), "bf16")
    attention(drawing, "mtp.layers.0.self_attn", "bf16", gain=0.3)
    layer_norms(drawing, "mtp.layers.0")
    for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        drawing.put(f"mtp.{norm}.weight", torch.zeros(HIDDEN))


def vision(drawing: Drawing) -> None:
    """The vision tower, in BF16."""
    merged = VISION * MERGE**2
    drawing.put("model.visual.patch_embed.proj.weight", drawing.normal(VISION, 3, TEMPORAL, PATCH, PATCH) / 8)
    drawing.put("model.visual.patch_embed.proj.bias", torch.zeros(VISION))
    drawing.put("model.visual.pos_embed.weight", drawing.normal(POSITIONS, VISION))
    shapes = {
        "blocks.0.attn.qkv": (3 * VISION, VISION),
        "blocks.0.attn.proj": (VISION, VISION),
        "blocks.0.mlp.linear_fc1": (VISION_INNER, VISION),
        "blocks.0.mlp.linear_fc2": (VISION, VISION_INNER),
        "merger.linear_fc1": (merged, merged),
        "merger.linear_fc2": (HIDDEN, merged),
    }
    for name, (rows, columns) in shapes.items():
        drawing.matrix(f"model.visual.{name}", rows, columns)
        drawing.put(f"model.visual.{name}.bias", torch.zeros(rows))
    for name in ("blocks.0.norm1", "blocks.0.norm2", "merger.norm"):
        drawing.put(f"model.visual.{name}.weight", torch.ones(VISION))
        drawing.put(f"model.visual.{name}.bias", torch.zeros(VISION))


def _quantization(drawing: Drawing) -> dict[str, Any]:
    nvfp4, fp8 = {"quant_algo": "NVFP4", "group_size": 16}, {"quant_algo": "FP8"}
    return {
        "quant_algo": "MIXED_PRECISION",
        "kv_cache_quant_algo": None,
        "quantized_layers": {
            module: nvfp4 if store == "nvfp4" else fp8
            for module, store in drawing.formats.items()
            if store != "bf16"
        },
        "exclude_modules": ["mtp*"],
    }
