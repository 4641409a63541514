"""Gemma 4: sliding layers and global ones of another head size, a dense MLP and experts in each layer.

Names and shapes are those of transformers' Gemma4ForConditionalGeneration. Published checkpoints in NVFP4
hold the experts one by one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dgx_vllm.checkpoints.context_length import tokens
from dgx_vllm.checkpoints.fields import Fields
from dgx_vllm.plan.architecture import Architecture, Attention, Tensor
from dgx_vllm.plan.layer_shapes import MlpShape, linear
from dgx_vllm.util.errors import UserError

_SLIDING, _FULL = "sliding_attention", "full_attention"
#: Fields of variants whose tensors are not known here: embeddings for each layer, and layers that share keys.
_OTHERS = ("hidden_size_per_layer_input", "num_kv_shared_layers")


def read(fields: Fields, config: Mapping[str, Any]) -> Architecture:
    """The architecture.

    Args:
        fields: the language model's.
        config: all of config.json, for the vision tower.

    Raises:
        UserError: a field is missing, or it is a variant that is not known.
    """
    other = next((name for name in _OTHERS if fields.values.get(name)), None)
    if other or config.get("audio_config"):
        raise UserError(
            f"{fields.model}: config.json has {other or 'audio_config'}, which it alone does not explain; "
            "give the directory of a local checkpoint, whose safetensors headers say the rest"
        )
    hidden, vocabulary = fields.positive("hidden_size"), fields.positive("vocab_size")
    kinds = fields.words("layer_types") or []
    if not kinds or not set(kinds) <= {_SLIDING, _FULL}:
        raise fields.lacks("layer_types")
    heads = fields.positive("num_attention_heads")
    shared = fields.flag("attention_k_eq_v")
    sizes = {
        _SLIDING: (fields.positive("num_key_value_heads"), fields.positive("head_dim")),
        _FULL: (
            fields.positive("num_global_key_value_heads", "num_key_value_heads")
            if shared
            else fields.positive("num_key_value_heads"),
            fields.positive("global_head_dim", "head_dim"),
        ),
    }
    mlp = MlpShape(hidden, fields.positive("intermediate_size"))
    has_experts = fields.flag("enable_moe_block")
    experts = fields.positive("num_experts") if has_experts else 0
    per_token = fields.positive("top_k_experts") if has_experts else 0
    expert = MlpShape(hidden, fields.positive("moe_intermediate_size")) if has_experts else None
    root = "model.language_model"

    def attention(prefix: str, kind: str) -> Iterator[Tensor]:
        kv_heads, size = sizes[kind]
        yield from linear(f"{prefix}.q_proj", heads * size, hidden)
        yield from linear(f"{prefix}.k_proj", kv_heads * size, hidden)
        if kind == _SLIDING or not shared:
            yield from linear(f"{prefix}.v_proj", kv_heads * size, hidden)
        yield from linear(f"{prefix}.o_proj", hidden, heads * size)
        yield Tensor(f"{prefix}.q_norm.weight", (size,))
        yield Tensor(f"{prefix}.k_norm.weight", (size,))

    def tensors() -> Iterator[Tensor]:
        yield Tensor(f"{root}.embed_tokens.weight", (vocabulary, hidden))
        for index, kind in enumerate(kinds):
            prefix = f"{root}.layers.{index}"
            yield from attention(f"{prefix}.self_attn", kind)
            yield from mlp.tensors(f"{prefix}.mlp")
            norms = ["input", "post_attention", "pre_feedforward", "post_feedforward"]
            if expert:
                yield from linear(f"{prefix}.router.proj", experts, hidden)
                yield Tensor(f"{prefix}.router.scale", (hidden,))
                yield Tensor(f"{prefix}.router.per_expert_scale", (experts,))
                yield from expert.tensors(f"{prefix}.experts.0", experts)
                norms += ["post_feedforward_1", "pre_feedforward_2", "post_feedforward_2"]
            for name in norms:
                place, _, number = name.partition("forward_")
                full = f"{place}forward_layernorm_{number}" if number else f"{name}_layernorm"
                yield Tensor(f"{prefix}.{full}.weight", (hidden,))
            yield Tensor(f"{prefix}.layer_scalar", (1,))
        yield Tensor(f"{root}.norm.weight", (hidden,))
        tower = config.get("vision_config")
        if isinstance(tower, Mapping):
            yield from _vision(Fields(f"{fields.model} (vision_config)", tower), hidden)

    full, sliding = kinds.count(_FULL), kinds.count(_SLIDING)
    attention_kinds = [Attention(full, *sizes[_FULL])] if full else []
    if sliding:
        attention_kinds.append(Attention(sliding, *sizes[_SLIDING], fields.positive("sliding_window")))
    widest = max((heads + 2 * kv_heads) * size for kv_heads, size in sizes.values())
    inner = expert.inner if expert else 0
    return Architecture(
        family="gemma4",
        dtype=fields.text("dtype", "torch_dtype", default="bfloat16"),
        tensors=tuple(tensors()),
        layers=len(kinds),
        hidden=hidden,
        vocabulary=vocabulary,
        max_tokens=tokens(fields.values),
        widest=max(widest, 2 * mlp.inner, per_token * (2 * inner + hidden)),
        attention=tuple(attention_kinds),
        experts=experts,
        experts_per_token=per_token,
    )


def _vision(fields: Fields, out: int) -> Iterator[Tensor]:
    width, inner = fields.positive("hidden_size"), fields.positive("intermediate_size")
    heads = fields.positive("num_attention_heads")
    size = fields.positive("head_dim", default=width // heads)
    kv_heads = fields.positive("num_key_value_heads", default=heads)
    root = "model.vision_tower"
    positions = fields.positive("position_embedding_size")
    yield Tensor(f"{root}.patch_embedder.position_embedding_table", (2, positions, width))
    yield from linear(f"{root}.patch_embedder.input_proj", width, 3 * fields.positive("patch_size") ** 2)
    for index in range(fields.positive("num_hidden_layers")):
        prefix = f"{root}.encoder.layers.{index}"
        for name, outputs, inputs in (
            ("self_attn.q_proj", heads * size, width),
            ("self_attn.k_proj", kv_heads * size, width),
            ("self_attn.v_proj", kv_heads * size, width),
            ("self_attn.o_proj", width, heads * size),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ):
            yield from linear(f"{prefix}.{name}.linear", outputs, inputs)
        yield Tensor(f"{prefix}.self_attn.q_norm.weight", (size,))
        yield Tensor(f"{prefix}.self_attn.k_norm.weight", (size,))
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield Tensor(f"{prefix}.{norm}_layernorm.weight", (width,))
    if fields.flag("standardize"):
        yield Tensor(f"{root}.std_bias", (width,))
        yield Tensor(f"{root}.std_scale", (width,))
    yield from linear("model.embed_vision.embedding_projection", out, width)
