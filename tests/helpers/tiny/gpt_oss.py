"""gpt-oss: experts in MXFP4, attention with sinks, sliding and full layers in turn; and an EAGLE-3 draft.

The layout of openai/gpt-oss-20b: experts stacked, in blocks of 32 codes with a power of two for each, gate
and up rows in turn; biases, router and attention in BF16. The draft has the form of
nvidia/gpt-oss-120b-Eagle3-v3.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.tiny.drawing import VOCABULARY, Drawing

HIDDEN, INTERMEDIATE, LAYERS, WINDOW = 128, 64, 4, 32
HEADS, KV_HEADS, HEAD = 4, 2, 64
EXPERTS, TOP_K = 8, 2
#: The layers whose outputs the draft takes, the last one included.
AUXILIARY = (1, 3, 4)
_BLOCK = 32
#: What the eight codes without a sign stand for in E2M1.
_E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def write(directory: Path, seed: int = 0) -> Path:
    """The checkpoint with its tokenizer. Returns the directory."""
    drawing = Drawing(seed)
    embedding = drawing.embedding(HIDDEN)
    drawing.put("model.embed_tokens.weight", embedding)
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        for projection, rows, columns in (
            ("q_proj", HEADS * HEAD, HIDDEN),
            ("k_proj", KV_HEADS * HEAD, HIDDEN),
            ("v_proj", KV_HEADS * HEAD, HIDDEN),
            ("o_proj", HIDDEN, HEADS * HEAD),
        ):
            drawing.matrix(f"{name}.self_attn.{projection}", rows, columns, 1.5)
            drawing.put(f"{name}.self_attn.{projection}.bias", drawing.normal(rows) / 10)
        drawing.put(f"{name}.self_attn.sinks", drawing.normal(HEADS))
        drawing.matrix(f"{name}.mlp.router", EXPERTS, HIDDEN, 2)
        drawing.put(f"{name}.mlp.router.bias", drawing.normal(EXPERTS) / 10)
        for projection, rows, columns in (
            ("gate_up_proj", 2 * INTERMEDIATE, HIDDEN),
            ("down_proj", HIDDEN, INTERMEDIATE),
        ):
            blocks, scales = mxfp4(drawing.experts(EXPERTS, rows, columns))
            drawing.put(f"{name}.mlp.experts.{projection}_blocks", blocks, torch.uint8)
            drawing.put(f"{name}.mlp.experts.{projection}_scales", scales, torch.uint8)
            drawing.put(f"{name}.mlp.experts.{projection}_bias", drawing.normal(EXPERTS, rows) / 10)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            drawing.put(f"{name}.{norm}.weight", 1 + drawing.normal(HIDDEN) / 10)
    drawing.put("model.norm.weight", torch.ones(HIDDEN))
    drawing.put("lm_head.weight", drawing.output(embedding))
    return drawing.write(directory, config())


def mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round to MXFP4.

    Args:
        weight: float [experts, rows, columns], columns a multiple of 32.

    Returns:
        Codes uint8 [experts, rows, columns / 32, 16], two to a byte, the first in the low bits.
        Scales uint8 [experts, rows, columns / 32], exponents of two with a bias of 127.
    """
    blocks = weight.unflatten(-1, (-1, _BLOCK))
    exponent = torch.floor(torch.log2(blocks.abs().amax(-1))) - 2
    scaled = blocks / torch.exp2(exponent)[..., None]
    codes = (scaled.abs()[..., None] - _E2M1).abs().argmin(-1) + 8 * (scaled < 0)
    return (codes[..., ::2] + 16 * codes[..., 1::2]).to(torch.uint8), (exponent + 127).to(torch.uint8)


def config() -> dict[str, Any]:
    """config.json."""
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "experts_per_token": TOP_K,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initial_context_length": 256,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(LAYERS)],
        "max_position_embeddings": 1024,
        "model_type": "gpt_oss",
        "num_attention_heads": HEADS,
        "num_experts_per_tok": TOP_K,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "num_local_experts": EXPERTS,
        "output_router_logits": False,
        "pad_token_id": 0,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 4.0,
            "original_max_position_embeddings": 256,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": WINDOW,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }


def write_eagle3(directory: Path, seed: int = 0) -> Path:
    """An EAGLE-3 draft for the checkpoint of the same seed, with an output head of its own.

    It takes the newest token's embedding from the target, and passes it on.
    """
    embedding = Drawing(seed).embedding(HIDDEN)
    drawing = Drawing(seed + 1)
    # Each head sees a half of the embeddings, and attends to what is alike: mostly to the newest token.
    halves = torch.eye(HIDDEN).unflatten(0, (KV_HEADS, HEAD))
    hidden = torch.zeros(HIDDEN, HIDDEN)
    queries = halves.repeat_interleave(HEADS // KV_HEADS, dim=0).flatten(0, 1)
    drawing.put("midlayer.self_attn.q_proj.weight", torch.cat([queries, hidden.repeat(2, 1)], 1))
    for projection in ("k_proj", "v_proj"):
        drawing.put(f"midlayer.self_attn.{projection}.weight", torch.cat([torch.eye(HIDDEN), hidden], 1))
    drawing.put("midlayer.self_attn.o_proj.weight", queries.T / (HEADS // KV_HEADS))
    for projection, rows, columns in (
        ("gate_proj", INTERMEDIATE, HIDDEN),
        ("up_proj", INTERMEDIATE, HIDDEN),
        ("down_proj", HIDDEN, INTERMEDIATE),
    ):
        drawing.matrix(f"midlayer.mlp.{projection}", rows, columns, 0.3)
    for norm in ("hidden_norm", "input_layernorm", "post_attention_layernorm"):
        drawing.put(f"midlayer.{norm}.weight", torch.ones(HIDDEN))
    drawing.put("input_norm.weight", torch.ones(len(AUXILIARY) * HIDDEN))
    drawing.put("norm.weight", torch.ones(HIDDEN))
    drawing.matrix("fc", HIDDEN, len(AUXILIARY) * HIDDEN, 0.3)
    drawing.put("lm_head.weight", drawing.output(embedding, 2))
    return drawing.write(directory, eagle3_config())


def eagle3_config() -> dict[str, Any]:
    """The draft's config.json."""
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "draft_vocab_size": VOCABULARY,
        "dtype": "bfloat16",
        "eagle_config": {
            "eagle_aux_hidden_state_layer_ids": list(AUXILIARY),
            "norm_before_fc": True,
            "use_aux_hidden_state": True,
        },
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 1024,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": 1,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-05,
        "rope_theta": 150000,
        "tie_word_embeddings": False,
        "vocab_size": VOCABULARY,
    }
