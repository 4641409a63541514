"""Gemma 4 as Gemma-4-26B-A4B: sliding layers, full ones with other heads, experts with a dense layer each.

ModelOpt's NVFP4 as in nvidia/Gemma-4-26B-A4B-NVFP4: the routed experts alone. The draft has the form of
google/gemma-4-26B-A4B-it-assistant: it has no keys and values of its own and reads the target's.
"""

import math
from pathlib import Path
from typing import Any

import torch

from helpers.tiny.drawing import VOCABULARY, Drawing, predecessor

HIDDEN, INTERMEDIATE, LAYERS, WINDOW = 128, 128, 4, 32
HEADS, KV_HEADS, HEAD = 4, 2, 32
GLOBAL_KV_HEADS, GLOBAL_HEAD = 1, 64
EXPERTS, TOP_K, EXPERT = 8, 2, 64
DRAFT_HIDDEN, DRAFT_LAYERS = 64, 2
VISION, VISION_INNER, VISION_HEADS = 32, 48, 2
_PREFIX = "model.language_model"


def write(directory: Path, seed: int = 0) -> Path:
    """The checkpoint with its tokenizer. Returns the directory."""
    drawing = Drawing(seed)
    drawing.put(f"{_PREFIX}.embed_tokens.weight", _embedding(drawing) / math.sqrt(HIDDEN))
    for layer in range(LAYERS):
        name = f"{_PREFIX}.layers.{layer}"
        full = layer == LAYERS - 1
        head, kv_heads = (GLOBAL_HEAD, GLOBAL_KV_HEADS) if full else (HEAD, KV_HEADS)
        drawing.matrix(f"{name}.self_attn.q_proj", HEADS * head, HIDDEN)
        for projection in ("k_proj",) if full else ("k_proj", "v_proj"):
            drawing.matrix(f"{name}.self_attn.{projection}", kv_heads * head, HIDDEN)
        drawing.matrix(f"{name}.self_attn.o_proj", HIDDEN, HEADS * head)
        # No scale but this: scores of a few units.
        drawing.put(f"{name}.self_attn.q_norm.weight", torch.full((head,), 2 / head**0.5))
        drawing.put(f"{name}.self_attn.k_norm.weight", 1 + drawing.normal(head) / 10)
        _dense(drawing, f"{name}.mlp", HIDDEN, INTERMEDIATE)
        _experts(drawing, name)
        for norm in (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
            "post_feedforward_layernorm_1",
            "post_feedforward_layernorm_2",
            "pre_feedforward_layernorm_2",
        ):
            size = 0.6 if norm.startswith("post") else 1
            drawing.put(f"{name}.{norm}.weight", size + drawing.normal(HIDDEN) / 20)
        drawing.put(f"{name}.layer_scalar", torch.ones(1))
    drawing.put(f"{_PREFIX}.norm.weight", 4 * _signs())
    vision(drawing)
    excluded = ["lm_head", "model.embed_vision*"]
    for layer in range(LAYERS):
        excluded += [f"{_PREFIX}.layers.{layer}.{part}*" for part in ("mlp", "router", "self_attn")]
    excluded += ["model.vision_tower*"]
    return drawing.write(
        directory,
        config() | {"quantization_config": _quantization(excluded)},
        hf_quant_config={
            "producer": {"name": "modelopt"},
            "quantization": {
                "quant_algo": "NVFP4",
                "kv_cache_quant_algo": None,
                "group_size": 16,
                "exclude_modules": excluded,
            },
        },
    )


def _signs() -> torch.Tensor:
    """[HIDDEN]: one, and minus one for every second channel."""
    return torch.ones(HIDDEN) - 2 * (torch.arange(HIDDEN) % 2)


def _embedding(drawing: Drawing) -> torch.Tensor:
    """[VOCABULARY, HIDDEN] of the size of one: the output head too, after a norm with `_signs`.

    With those signs a token is as like itself as not at all, and most like its two neighbours in the order of
    `predecessor`.
    """
    before = predecessor()
    embedding = drawing.normal(VOCABULARY, HIDDEN)
    token = 0
    for _ in range(VOCABULARY - 1):
        token = int((before == token).nonzero())
        embedding[token] = 0.4 * _signs() * embedding[before[token]] + math.sqrt(0.84) * embedding[token]
    return embedding


def _dense(drawing: Drawing, name: str, hidden: int, intermediate: int) -> None:
    drawing.matrix(f"{name}.gate_proj", intermediate, hidden)
    drawing.matrix(f"{name}.up_proj", intermediate, hidden)
    drawing.matrix(f"{name}.down_proj", hidden, intermediate)


def _experts(drawing: Drawing, name: str) -> None:
    drawing.put(f"{name}.router.scale", torch.ones(HIDDEN))
    drawing.put(f"{name}.router.per_expert_scale", 1 + drawing.normal(EXPERTS) / 10)
    drawing.matrix(f"{name}.router.proj", EXPERTS, HIDDEN, 20)
    for projection, rows, columns in (
        ("gate_proj", EXPERT, HIDDEN),
        ("up_proj", EXPERT, HIDDEN),
        ("down_proj", HIDDEN, EXPERT),
    ):
        for expert, weight in enumerate(drawing.experts(EXPERTS, rows, columns)):
            drawing.store(f"{name}.experts.{expert}.{projection}", weight, "nvfp4")


def vision(drawing: Drawing) -> None:
    """The vision tower, in BF16: one layer."""
    layer = "model.vision_tower.encoder.layers.0"
    for name, rows, columns in (
        ("self_attn.q_proj", VISION, VISION),
        ("self_attn.k_proj", VISION, VISION),
        ("self_attn.v_proj", VISION, VISION),
        ("self_attn.o_proj", VISION, VISION),
        ("mlp.gate_proj", VISION_INNER, VISION),
        ("mlp.up_proj", VISION_INNER, VISION),
        ("mlp.down_proj", VISION, VISION_INNER),
    ):
        drawing.matrix(f"{layer}.{name}.linear", rows, columns)
    for name in (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ):
        drawing.put(f"{layer}.{name}.weight", torch.ones(VISION))
    for name in ("q_norm", "k_norm"):
        drawing.put(f"{layer}.self_attn.{name}.weight", torch.ones(VISION // VISION_HEADS))
    drawing.matrix("model.vision_tower.patch_embedder.input_proj", VISION, 3 * 4 * 4)
    drawing.put("model.vision_tower.patch_embedder.position_embedding_table", drawing.normal(2, 64, VISION))
    drawing.put("model.vision_tower.std_bias", torch.zeros(VISION))
    drawing.put("model.vision_tower.std_scale", torch.ones(VISION))
    drawing.matrix("model.embed_vision.embedding_projection", HIDDEN, VISION)


def config() -> dict[str, Any]:
    """config.json without its quantization."""
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": None,
        "audio_token_id": VOCABULARY - 1,
        "boa_token_id": VOCABULARY - 2,
        "boi_token_id": VOCABULARY - 3,
        "dtype": "bfloat16",
        "eoa_token_id": VOCABULARY - 4,
        "eoa_token_index": VOCABULARY - 4,
        "eoi_token_id": VOCABULARY - 5,
        "eos_token_id": [2],
        "image_token_id": VOCABULARY - 6,
        "initializer_range": 0.02,
        "model_type": "gemma4",
        "text_config": text_config(LAYERS)
        | {
            "enable_moe_block": True,
            "final_logit_softcapping": 30.0,
            "moe_intermediate_size": EXPERT,
            "num_experts": EXPERTS,
            "num_kv_shared_layers": 0,
            "top_k_experts": TOP_K,
            "use_bidirectional_attention": "vision",
        },
        "tie_word_embeddings": True,
        "video_token_id": VOCABULARY - 7,
        "vision_config": {
            "attention_bias": False,
            "default_output_length": 4,
            "dtype": "bfloat16",
            "global_head_dim": VISION // VISION_HEADS,
            "head_dim": VISION // VISION_HEADS,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": VISION,
            "intermediate_size": VISION_INNER,
            "max_position_embeddings": 64,
            "model_type": "gemma4_vision",
            "num_attention_heads": VISION_HEADS,
            "num_hidden_layers": 1,
            "num_key_value_heads": VISION_HEADS,
            "patch_size": 4,
            "pooling_kernel_size": 3,
            "position_embedding_size": 64,
            "rms_norm_eps": 1e-06,
            "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
            "standardize": True,
            "use_clipped_linears": False,
        },
        "vision_soft_tokens_per_image": 4,
    }


def text_config(layers: int) -> dict[str, Any]:
    """What the model and its draft share: sliding layers, then one of full attention."""
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": True,
        "bos_token_id": 1,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "global_head_dim": GLOBAL_HEAD,
        "head_dim": HEAD,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": HIDDEN,
        "hidden_size_per_layer_input": 0,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "layer_types": ["sliding_attention"] * (layers - 1) + ["full_attention"],
        "max_position_embeddings": 1024,
        "model_type": "gemma4_text",
        "num_attention_heads": HEADS,
        "num_global_key_value_heads": GLOBAL_KV_HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "full_attention": {
                "partial_rotary_factor": 0.25,
                "rope_theta": 1000000.0,
                "rope_type": "proportional",
            },
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "sliding_window": WINDOW,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_double_wide_mlp": False,
        "vocab_size": VOCABULARY,
        "vocab_size_per_layer_input": VOCABULARY,
    }


def _quantization(excluded: list[str]) -> dict[str, Any]:
    element = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    return {
        "config_groups": {
            "group_0": {"input_activations": element, "weights": element, "targets": ["Linear"]}
        },
        "ignore": excluded,
        "quant_algo": "NVFP4",
        "producer": {"name": "modelopt"},
        "quant_method": "modelopt",
    }


def write_assistant(directory: Path, seed: int = 0) -> Path:
    """The draft for the checkpoint of the same seed, with an embedding of its own that is its output head."""
    embedding = _embedding(Drawing(seed))
    drawing = Drawing(seed + 1)
    down = drawing.normal(DRAFT_HIDDEN, HIDDEN) / math.sqrt(HIDDEN)
    before = predecessor()
    # Both neighbours' embeddings: the draft cannot tell which of them comes.
    neighbours = embedding[before] + embedding[before.argsort()]
    drawing.put("model.embed_tokens.weight", neighbours @ down.T)
    hidden = drawing.normal(*down.shape) / math.sqrt(HIDDEN)
    drawing.put("pre_projection.weight", torch.cat([down, 0.05 * hidden], 1))
    drawing.matrix("post_projection", HIDDEN, DRAFT_HIDDEN)
    for layer in range(DRAFT_LAYERS):
        name = f"model.layers.{layer}"
        head = GLOBAL_HEAD if layer == DRAFT_LAYERS - 1 else HEAD
        drawing.matrix(f"{name}.self_attn.q_proj", HEADS * head, DRAFT_HIDDEN)
        drawing.matrix(f"{name}.self_attn.o_proj", DRAFT_HIDDEN, HEADS * head)
        drawing.put(f"{name}.self_attn.q_norm.weight", torch.full((head,), 2 / head**0.5))
        _dense(drawing, f"{name}.mlp", DRAFT_HIDDEN, INTERMEDIATE)
        for norm, size in (
            ("input_layernorm", 1),
            ("post_attention_layernorm", 0.02),
            ("pre_feedforward_layernorm", 1),
            ("post_feedforward_layernorm", 0.02),
        ):
            drawing.put(f"{name}.{norm}.weight", torch.full((DRAFT_HIDDEN,), float(size)))
        drawing.put(f"{name}.layer_scalar", torch.ones(1))
    drawing.put("model.norm.weight", torch.ones(DRAFT_HIDDEN))
    return drawing.write(directory, assistant_config())


def assistant_config() -> dict[str, Any]:
    """The draft's config.json."""
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": HIDDEN,
        "centroid_intermediate_top_k": 32,
        "dtype": "bfloat16",
        "model_type": "gemma4_assistant",
        "num_centroids": 2048,
        "text_config": text_config(DRAFT_LAYERS)
        | {
            "enable_moe_block": False,
            "final_logit_softcapping": None,
            "hidden_size": DRAFT_HIDDEN,
            "num_kv_shared_layers": DRAFT_LAYERS,
            "vocab_size_per_layer_input": 0,
        },
        "tie_word_embeddings": True,
        "use_ordered_embeddings": False,
    }
