"""Draft shapes: config.json to the tensors of a checkpoint that drafts for another model.

The kinds are those that vLLM 0.32 makes: models/qwen3_dflash.py, qwen3_dflash2.py, qwen3_dspark.py and
llama_eagle3.py, and the speculators library's way to write their configs
(transformers_utils/configs/speculators). Such a checkpoint reads hidden states of some of the model's layers
through `fc`, and takes embedding and lm_head from the model unless it has its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from dgx_vllm.checkpoints.context_length import tokens
from dgx_vllm.checkpoints.fields import Fields
from dgx_vllm.plan.architecture import Architecture, Attention, Tensor
from dgx_vllm.plan.layer_shapes import AttentionShape, MlpShape, linear

#: The kinds, which stand for a config's model_type in `Architecture.family`.
KINDS = ("dflash", "dspark", "eagle3", "peagle")
_SPECULATORS = {"dflash2": "dflash", **{kind: kind for kind in KINDS}}
#: By architecture, where the config is not one of speculators.
_ARCHITECTURES = {
    **{"DFlashDraftModel": "dflash", "DFlash2DraftModel": "dflash"},
    **{"DSparkDraftModel": "dspark", "Qwen3DSparkModel": "dspark", "PEagleDraftModel": "peagle"},
}
#: Hidden states that EAGLE-3 reads where the config does not list their layers (llama_eagle3.py).
_EAGLE3_LAYERS = 3


def kind(config: Mapping[str, Any]) -> str | None:
    """Which of `KINDS` a config.json describes, None for a model of its own."""
    named = _SPECULATORS.get(str(config.get("speculators_model_type")))
    if named:
        return named
    architectures = config.get("architectures")
    first = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if first.startswith("Peagle"):
        return "peagle"
    if first.startswith("Eagle3") or first.endswith("Eagle3"):
        return "eagle3"
    return _ARCHITECTURES.get(first)


def most(config: Mapping[str, Any]) -> int | None:
    """The most tokens that the checkpoint was trained to draft at once, None where the config does not say.

    A block holds the last token of the text, the anchor, and the drafts after it; DSpark may draft in the
    anchor's place, too.
    """
    methods = config.get("speculators_config")
    if isinstance(methods, Mapping):
        proposals = methods.get("proposal_methods")
        first = proposals[0] if isinstance(proposals, list) and proposals else None
        number = first.get("speculative_tokens") if isinstance(first, Mapping) else None
        return number if isinstance(number, int) and number > 0 else None
    fields = _draft_fields("", config)
    block = fields.found("block_size", "dspark_block_size")
    if kind(config) not in ("dflash", "dspark") or not block:
        return None
    from_anchor = kind(config) == "dspark" and fields.flag("sample_from_anchor", True)
    return block if from_anchor else max(block - 1, 1)


def read(model: str, config: Mapping[str, Any]) -> Architecture:
    """The shape of a checkpoint that drafts.

    Args:
        model: what the user called it, for messages.
        config: its config.json, for which `kind` says one.

    Raises:
        UserError: a field is missing.
    """
    family = kind(config)
    assert family is not None
    fields = _draft_fields(model, config)
    hidden, layers = fields.positive("hidden_size"), fields.positive("num_hidden_layers", default=1)
    heads = fields.positive("num_attention_heads")
    attention = AttentionShape(
        hidden=hidden,
        heads=heads,
        kv_heads=fields.positive("num_key_value_heads", default=heads),
        head_size=fields.positive("head_dim", default=hidden // heads),
        norms=fields.text("model_type") == "qwen3",
        qkv_bias=fields.flag("attention_bias"),
    )
    mlp = MlpShape(hidden, fields.positive("intermediate_size"))
    vocabulary = fields.found("vocab_size") or 0
    drafted = fields.found("draft_vocab_size") or vocabulary

    def tensors() -> Iterator[Tensor]:
        yield from _around(family, fields, config, vocabulary, drafted)
        for index in range(layers):
            prefix = f"layers.{index}"
            yield from _attention(family, attention, index, hidden)
            yield from mlp.tensors(f"{prefix}.mlp")
            if family == "dflash":
                yield from _convolutions(fields, hidden, prefix)
            yield Tensor(f"{prefix}.input_layernorm.weight", (hidden,))
            yield Tensor(f"{prefix}.post_attention_layernorm.weight", (hidden,))
        yield Tensor("norm.weight", (hidden,))

    return Architecture(
        family=family,
        dtype=fields.text("dtype", "torch_dtype", default="bfloat16"),
        tensors=tuple(tensors()),
        layers=layers,
        hidden=hidden,
        vocabulary=drafted,
        max_tokens=tokens(fields.values),
        widest=max(attention.widest, 2 * mlp.inner),
        attention=_caches(fields, layers, attention),
    )


def _draft_fields(model: str, config: Mapping[str, Any]) -> Fields:
    """Every field by its name, those of speculators' and DFlash's parts among them."""
    parts = (config.get(name) for name in ("transformer_layer_config", "dflash_config", "eagle_config"))
    inner = [part for part in parts if isinstance(part, Mapping)]
    values: dict[str, Any] = {}
    for part in (*inner, config):
        values |= {name: value for name, value in part.items() if value is not None or name not in values}
    if isinstance(config.get("transformer_layer_config"), Mapping):
        values["model_type"] = config["transformer_layer_config"].get("model_type")
    return Fields(model, values)


def _around(
    family: str, fields: Fields, config: Mapping[str, Any], vocabulary: int, drafted: int
) -> Iterator[Tensor]:
    """What is not in the layers."""
    hidden = fields.positive("hidden_size")
    read_states = _states(family, fields) * (fields.found("target_hidden_size") or hidden)
    yield from linear("fc", hidden, read_states)
    if fields.flag("norm_before_fc"):
        yield Tensor("input_norm.weight", (read_states,))
    if family in ("dflash", "dspark"):
        yield Tensor("hidden_norm.weight", (hidden,))
    from_speculators = "speculators_model_type" in config
    embeds = fields.flag("has_embed_tokens", from_speculators and family in ("eagle3", "peagle"))
    if embeds and vocabulary:
        yield Tensor("embed_tokens.weight", (vocabulary, hidden))
    # Which of EAGLE-3's checkpoints bring a head is not in their configs: with one they take the most.
    heads = family in ("eagle3", "peagle") or fields.flag("has_lm_head", drafted < vocabulary)
    if heads and drafted:
        yield from linear("lm_head", drafted, hidden)
    rank = fields.found("markov_rank", "dspark_markov_rank")
    if family == "dspark" and rank and vocabulary:
        yield Tensor("markov_head.markov_w1.weight", (vocabulary, rank))
        yield from linear("markov_head.markov_w2", drafted, rank)
    rank = fields.found("selector_rank")
    if family == "dflash" and rank and vocabulary:
        yield Tensor("candidate_selector.hidden_projection.weight", (rank, hidden))
        for name in ("predecessor", "successor"):
            yield Tensor(f"candidate_selector.{name}_codebook", (vocabulary, rank))


def _states(family: str, fields: Fields) -> int:
    """How many of the model's hidden states `fc` reads at once."""
    if family in ("eagle3", "peagle") and fields.found("num_aux_hidden_states"):
        return fields.found("num_aux_hidden_states") or 0
    names = ("eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids", "target_layer_ids")
    lists = (fields.numbers(name) for name in names)
    listed = next((len(layers) for layers in lists if layers), 0)
    if not listed and family in ("dflash", "dspark"):
        raise fields.lacks("target_layer_ids", "aux_hidden_state_layer_ids")
    return listed or _EAGLE3_LAYERS


def _attention(family: str, shape: AttentionShape, index: int, hidden: int) -> Iterator[Tensor]:
    """One layer's attention; EAGLE-3's first layer reads the embedding and the hidden state together."""
    prefix = f"layers.{index}"
    both = family in ("eagle3", "peagle") and index == 0
    for tensor in shape.tensors(f"{prefix}.self_attn"):
        widened = both and tensor.linear and not tensor.module.endswith("o_proj")
        yield Tensor(tensor.name, (tensor.shape[0], 2 * hidden), linear=True) if widened else tensor
    if both:
        yield Tensor(f"{prefix}.hidden_norm.weight", (hidden,))


def _convolutions(fields: Fields, hidden: int, prefix: str) -> Iterator[Tensor]:
    """DFlash2's short convolutions before and after attention and MLP."""
    taps, group = fields.found("conv_kernel_size"), fields.found("conv_group_size")
    if not taps or not group:
        return
    for name in ("attention_conv", "mlp_conv"):
        yield Tensor(f"{prefix}.{name}.base_kernel", (2, taps, hidden))
        yield from linear(f"{prefix}.{name}.kernel_projection", 2 * taps * (hidden // group), hidden)


def _caches(fields: Fields, layers: int, shape: AttentionShape) -> tuple[Attention, ...]:
    window = fields.found("sliding_window")
    kinds = fields.words("layer_types") or []
    sliding = sum(name == "sliding_attention" for name in kinds[:layers]) if window else 0
    caches = []
    if layers - sliding:
        caches.append(Attention(layers - sliding, shape.kv_heads, shape.head_size))
    if sliding:
        caches.append(Attention(sliding, shape.kv_heads, shape.head_size, window))
    return tuple(caches)
