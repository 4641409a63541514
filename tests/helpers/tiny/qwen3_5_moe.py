"""Qwen3.5 with experts, as Qwen3.5-122B-A10B: a shared expert in each layer, MTP with experts of its own.

ModelOpt's NVFP4 as in nvidia/Qwen3.5-122B-A10B-NVFP4: the routed experts alone. The router is BF16 though the
list of exclusions does not name it.
"""

from pathlib import Path
from typing import Any

import torch

from helpers.tiny import qwen3_5
from helpers.tiny.drawing import VOCABULARY, Drawing, Format
from helpers.tiny.qwen3_5 import HIDDEN, LAYERS

EXPERTS, TOP_K, EXPERT, SHARED = 8, 2, 64, 64
_PREFIX = "model.language_model"


def write(directory: Path, seed: int = 0) -> Path:
    """The checkpoint with its tokenizer. Returns the directory."""
    drawing = Drawing(seed)
    embedding = drawing.embedding(HIDDEN)
    drawing.put(f"{_PREFIX}.embed_tokens.weight", embedding)
    excluded = ["lm_head"]
    for layer in range(LAYERS):
        name = f"{_PREFIX}.layers.{layer}"
        if layer % 4 == 3:
            qwen3_5.attention(drawing, f"{name}.self_attn", "bf16")
            excluded.append(f"{name}.self_attn*")
        else:
            qwen3_5.linear_attention(drawing, f"{name}.linear_attn", "bf16")
            excluded.append(f"{name}.linear_attn*")
        _experts(drawing, f"{name}.mlp", "nvfp4", 1)
        excluded += [f"{name}.mlp.shared_expert*", f"{name}.mlp.shared_expert_gate"]
        qwen3_5.layer_norms(drawing, name)
    drawing.put(f"{_PREFIX}.norm.weight", torch.zeros(HIDDEN))
    drawing.store("lm_head", drawing.output(embedding), "bf16")
    qwen3_5.mtp(drawing)
    _experts(drawing, "mtp.layers.0.mlp", "bf16", 0.3)
    qwen3_5.vision(drawing)
    excluded += ["model.visual*", "mtp.layers.0*", "mtp*"]
    element = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    quantization = {
        "config_groups": {
            "group_0": {"input_activations": element, "weights": element, "targets": ["Linear"]}
        },
        "ignore": excluded,
        "quant_algo": "NVFP4",
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "producer": {"name": "modelopt"},
        "quant_method": "modelopt",
    }
    listed = {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "group_size": 16,
        "exclude_modules": excluded,
    }
    return drawing.write(
        directory,
        config() | {"quantization_config": quantization},
        hf_quant_config={"producer": {"name": "modelopt"}, "quantization": listed},
    )


def config() -> dict[str, Any]:
    """config.json without its quantization."""
    return {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "dtype": "bfloat16",
        "image_token_id": VOCABULARY - 1,
        "model_type": "qwen3_5_moe",
        "text_config": qwen3_5.text_config("qwen3_5_moe_text")
        | {
            "moe_intermediate_size": EXPERT,
            "num_experts": EXPERTS,
            "num_experts_per_tok": TOP_K,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
            "shared_expert_intermediate_size": SHARED,
        },
        "tie_word_embeddings": False,
        "video_token_id": VOCABULARY - 2,
        "vision_config": qwen3_5.vision_config("qwen3_5_moe_vision"),
        "vision_end_token_id": VOCABULARY - 3,
        "vision_start_token_id": VOCABULARY - 4,
    }


def _experts(drawing: Drawing, name: str, store: Format, gain: float) -> None:
    """Routed experts, and the shared one in BF16."""
    drawing.matrix(f"{name}.gate", EXPERTS, HIDDEN, 2)
    drawing.matrix(f"{name}.shared_expert_gate", 1, HIDDEN)
    qwen3_5.dense(drawing, f"{name}.shared_expert", "bf16", SHARED, gain)
    for projection, rows, columns in (
        ("gate_proj", EXPERT, HIDDEN),
        ("up_proj", EXPERT, HIDDEN),
        ("down_proj", HIDDEN, EXPERT),
    ):
        for expert, weight in enumerate(drawing.experts(EXPERTS, rows, columns)):
            drawing.store(f"{name}.experts.{expert}.{projection}", weight * gain, store)
