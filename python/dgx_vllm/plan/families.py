"""Families: config.json to tensors and states, for the decoder models that vLLM's users run on a Spark.

Names and shapes are those of the checkpoints on the Hugging Face hub; tests hold the parameter counts against
transformers' own models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.checkpoints.context_length import tokens
from dgx_vllm.checkpoints.fields import Fields, text_part
from dgx_vllm.plan import draft_shapes, gemma4, nemotron_h, vision
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent, Tensor
from dgx_vllm.plan.layer_shapes import AttentionShape, DeltaNetShape, MlpShape, MoeShape, linear
from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Traits:
    """What a family's config.json leaves unsaid.

    Args:
        qkv_bias: whether q, k and v have biases where the config says nothing.
        head_norms: queries and keys are normalized.
        gated: attention has a gate.
        experts: "always", "never", or "some": as decoder_sparse_step and mlp_only_layers say.
        split: GDN's input projections are apart.
        wrapped: text tensors lie below model.language_model where there is a vision tower.
        windowed: sliding layers alternate with full ones where layer_types is missing.
    """

    qkv_bias: bool = False
    head_norms: bool = False
    gated: bool = False
    experts: str = "never"
    split: bool = False
    wrapped: bool = False
    windowed: bool = False


_DECODERS: dict[str, Traits] = {
    "llama": Traits(),
    "mistral": Traits(),
    "mixtral": Traits(experts="always"),
    "qwen2": Traits(qkv_bias=True),
    "qwen3": Traits(head_norms=True),
    "qwen3_moe": Traits(head_norms=True, experts="some"),
    "qwen3_next": Traits(head_norms=True, gated=True, experts="some"),
    "qwen3_5": Traits(head_norms=True, gated=True, split=True, wrapped=True),
    "qwen3_5_moe": Traits(head_norms=True, gated=True, split=True, wrapped=True, experts="always"),
    "gpt_oss": Traits(qkv_bias=True, experts="always", windowed=True),
}

# A text model published without its vision tower.
_ALIASES = {"qwen3_5_text": "qwen3_5", "qwen3_5_moe_text": "qwen3_5_moe", "gemma4_text": "gemma4"}

KNOWN = (*_DECODERS, "gemma4", "nemotron_h")
"""The values of model_type that can be planned from config.json alone."""


def read(model: str, config: Mapping[str, Any]) -> Architecture:
    """A model's architecture.

    Args:
        model: what the user called the model, for messages.
        config: its config.json.

    Raises:
        UserError: the model_type is unknown, or a field is missing.
    """
    if draft_shapes.kind(config):
        return draft_shapes.read(model, config)
    family = Fields(model, config).text("model_type")
    family = _ALIASES.get(family, family)
    fields = text_part(model, config)
    if family == "nemotron_h":
        return nemotron_h.read(fields)
    if family == "gemma4":
        return gemma4.read(fields, config)
    traits = _DECODERS.get(family)
    if traits is None:
        named = f"model_type {family!r}" if family else "no model_type"
        raise UserError(
            f"{model}: config.json has {named}, and config.json alone can be planned for {', '.join(KNOWN)}; "
            "give the directory of a local checkpoint, whose safetensors headers say the rest"
        )
    return _decoder(family, traits, fields, config)


def _decoder(family: str, traits: Traits, fields: Fields, config: Mapping[str, Any]) -> Architecture:
    hidden = fields.positive("hidden_size")
    layers = fields.positive("num_hidden_layers")
    vocabulary = fields.positive("vocab_size")
    attention = _attention(fields, traits, hidden, family)
    kinds = _layer_types(fields, traits, layers)
    delta_net = _delta_net(fields, traits, hidden) if "linear_attention" in kinds else None
    moe = _moe(fields, traits, hidden, family)
    dense = (
        MlpShape(hidden, fields.positive("intermediate_size"), bias=fields.flag("mlp_bias"))
        if (moe is None or not all(_sparse(fields, traits, index) for index in range(layers)))
        else None
    )
    tower = config.get("vision_config") if traits.wrapped else None
    root = "model.language_model" if isinstance(tower, Mapping) else "model"
    block = "block_sparse_moe" if family == "mixtral" else "mlp"

    def tensors() -> Iterator[Tensor]:
        yield Tensor(f"{root}.embed_tokens.weight", (vocabulary, hidden))
        for index, kind in enumerate(kinds):
            prefix = f"{root}.layers.{index}"
            if delta_net and kind == "linear_attention":
                yield from delta_net.tensors(f"{prefix}.linear_attn")
            else:
                yield from attention.tensors(f"{prefix}.self_attn")
            feed = moe if moe and _sparse(fields, traits, index) else dense
            assert feed is not None
            yield from feed.tensors(f"{prefix}.{block}")
            yield Tensor(f"{prefix}.input_layernorm.weight", (hidden,))
            yield Tensor(f"{prefix}.post_attention_layernorm.weight", (hidden,))
        yield Tensor(f"{root}.norm.weight", (hidden,))
        if not fields.flag("tie_word_embeddings"):
            yield from linear("lm_head", vocabulary, hidden)
        for index in range(drafts):
            yield from _draft(index, hidden, attention, moe or dense)
        if isinstance(tower, Mapping):
            yield from vision.tensors(Fields(f"{fields.model} (vision_config)", tower))

    drafts = _draft_layers(fields, family)
    kv = Attention(1, attention.kv_heads, attention.head_size)
    return Architecture(
        family=family,
        dtype=fields.text("dtype", "torch_dtype", default="bfloat16"),
        tensors=tuple(tensors()),
        layers=layers,
        hidden=hidden,
        vocabulary=vocabulary,
        max_tokens=tokens(fields.values),
        widest=max(
            attention.widest,
            delta_net.widest if delta_net else 0,
            moe.widest if moe else 0,
            2 * dense.inner if dense else 0,
        ),
        attention=_caches(kinds, kv, fields, family),
        recurrent=_delta_net_state(delta_net, kinds.count("linear_attention"), fields) if delta_net else None,
        experts=moe.experts if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
        draft=Attention(drafts, kv.heads, kv.head_size) if drafts else None,
    )


def _attention(fields: Fields, traits: Traits, hidden: int, family: str) -> AttentionShape:
    heads = fields.positive("num_attention_heads")
    bias = fields.flag("attention_bias", traits.qkv_bias)
    return AttentionShape(
        hidden=hidden,
        heads=heads,
        kv_heads=fields.positive("num_key_value_heads", default=heads),
        head_size=fields.positive("head_dim", default=hidden // heads),
        gated=traits.gated,
        qkv_bias=bias or family == "qwen2",
        # Qwen2 has biases on q, k and v alone.
        out_bias=bias and family != "qwen2",
        norms=traits.head_norms,
        sinks=family == "gpt_oss",
    )


def _layer_types(fields: Fields, traits: Traits, layers: int) -> list[str]:
    types = fields.words("layer_types")
    if types is not None:
        if len(types) != layers:
            raise UserError(
                f"{fields.model}: config.json has {len(types)} layer_types for {layers} layers; "
                "fetch the checkpoint's config.json again"
            )
        return types
    if fields.values.get("linear_num_value_heads") is not None:
        interval = fields.positive("full_attention_interval", default=4)
        return ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(layers)]
    if traits.windowed:
        return ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(layers)]
    every = fields.values.get("sliding_window") and fields.flag(
        "use_sliding_window", fields.text("model_type") == "mistral"
    )
    return ["sliding_attention" if every else "full_attention"] * layers


def _sparse(fields: Fields, traits: Traits, index: int) -> bool:
    if traits.experts != "some":
        return traits.experts == "always"
    step = fields.positive("decoder_sparse_step", default=1)
    return index not in fields.numbers("mlp_only_layers") and (index + 1) % step == 0


def _moe(fields: Fields, traits: Traits, hidden: int, family: str) -> MoeShape | None:
    if traits.experts == "never" or not fields.whole("num_experts", "num_local_experts", default=0):
        if traits.experts == "always":
            fields.positive("num_experts", "num_local_experts")
        return None
    experts = fields.positive("num_experts", "num_local_experts")
    per_token = fields.positive("num_experts_per_tok", "experts_per_token")
    if family == "mixtral":
        names = ("w1", "w3", "w2")
        return MoeShape(
            MlpShape(hidden, fields.positive("intermediate_size"), names=names), experts, per_token
        )
    if family == "gpt_oss":
        expert = MlpShape(hidden, fields.positive("intermediate_size"), bias=True)
        return MoeShape(expert, experts, per_token, "router", router_bias=True, fused=True)
    shared = fields.whole("shared_expert_intermediate_size", default=0)
    return MoeShape(
        MlpShape(hidden, fields.positive("moe_intermediate_size")),
        experts,
        per_token,
        shared=("shared_expert", MlpShape(hidden, shared)) if shared else None,
        shared_gate=bool(shared),
    )


def _delta_net(fields: Fields, traits: Traits, hidden: int) -> DeltaNetShape:
    return DeltaNetShape(
        hidden=hidden,
        key_heads=fields.positive("linear_num_key_heads"),
        value_heads=fields.positive("linear_num_value_heads"),
        key_size=fields.positive("linear_key_head_dim"),
        value_size=fields.positive("linear_value_head_dim"),
        kernel=fields.positive("linear_conv_kernel_dim"),
        split=traits.split,
    )


def _delta_net_state(shape: DeltaNetShape, layers: int, fields: Fields) -> Recurrent:
    # vLLM takes the dtype from mamba_ssm_dtype (Qwen3.5), else the model's (model_executor/models/config.py).
    return Recurrent(
        layers,
        shape.channels,
        shape.kernel,
        (shape.value_heads, shape.value_size, shape.key_size),
        fields.text("mamba_ssm_dtype") or None,
    )


def _draft_layers(fields: Fields, family: str) -> int:
    if family == "qwen3_next":
        # Published configs leave it out although every checkpoint has one.
        return fields.whole("num_nextn_predict_layers", default=1)
    return fields.whole("mtp_num_hidden_layers", "num_nextn_predict_layers", default=0)


def _draft(
    index: int, hidden: int, attention: AttentionShape, feed: MoeShape | MlpShape | None
) -> Iterator[Tensor]:
    """An MTP layer as Qwen3-Next and Qwen3.5 have it; it shares embedding and lm_head with the model."""
    if index == 0:
        yield from linear("mtp.fc", hidden, 2 * hidden)
        for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
            yield Tensor(f"mtp.{name}.weight", (hidden,))
    prefix = f"mtp.layers.{index}"
    yield from attention.tensors(f"{prefix}.self_attn")
    assert feed is not None
    yield from feed.tensors(f"{prefix}.mlp")
    yield Tensor(f"{prefix}.input_layernorm.weight", (hidden,))
    yield Tensor(f"{prefix}.post_attention_layernorm.weight", (hidden,))


def _caches(kinds: list[str], kv: Attention, fields: Fields, family: str) -> tuple[Attention, ...]:
    full, sliding = kinds.count("full_attention"), kinds.count("sliding_attention")
    caches = []
    if full:
        caches.append(Attention(full, kv.heads, kv.head_size))
    if sliding:
        window = fields.positive("sliding_window", default=128 if family == "gpt_oss" else None)
        caches.append(Attention(sliding, kv.heads, kv.head_size, window))
    return tuple(caches)
