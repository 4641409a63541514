"""Nemotron-H: layers that are Mamba 2, attention, MLP or experts, in an order that the config spells out."""

from collections.abc import Callable, Iterator

from dgx_vllm.checkpoints.context_length import tokens
from dgx_vllm.checkpoints.fields import Fields
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent, Tensor
from dgx_vllm.plan.layer_shapes import AttentionShape, MambaShape, MlpShape, MoeShape, linear
from dgx_vllm.util.errors import UserError

_PATTERN = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}


def read(fields: Fields) -> Architecture:
    """The architecture.

    Raises:
        UserError: a field is missing, or a layer is of an unknown kind.
    """
    hidden, vocabulary = fields.positive("hidden_size"), fields.positive("vocab_size")
    kinds = _kinds(fields)
    heads = fields.positive("num_attention_heads")
    bias = fields.flag("use_bias")
    attention = AttentionShape(
        hidden,
        heads,
        fields.positive("num_key_value_heads", default=heads),
        fields.positive("head_dim", "attention_head_dim"),
        qkv_bias=fields.flag("attention_bias"),
        out_bias=fields.flag("attention_bias"),
    )
    mamba = MambaShape(
        hidden,
        fields.positive("mamba_num_heads"),
        fields.positive("mamba_head_dim"),
        fields.positive("n_groups", "mamba_n_groups"),
        fields.positive("ssm_state_size"),
        fields.positive("conv_kernel", "mamba_d_conv"),
        fields.flag("mamba_proj_bias", bias),
        fields.flag("use_conv_bias", True),
    )
    shapes: dict[str, Callable[[str], Iterator[Tensor]]] = {
        "linear_attention": mamba.tensors,
        "full_attention": attention.tensors,
    }
    mlp_bias = fields.flag("mlp_bias")
    inner = fields.positive("intermediate_size") if "mlp" in kinds else 0
    if inner:
        shapes["mlp"] = MlpShape(hidden, inner, gated=False, bias=mlp_bias).tensors
    moe = _moe(fields, hidden, mlp_bias) if "moe" in kinds else None
    latent = _latent(fields)
    if moe:
        shapes["moe"] = lambda prefix: _expert_layer(moe, latent, hidden, prefix)
    draft_kinds = _draft_kinds(fields)

    def tensors() -> Iterator[Tensor]:
        yield Tensor("backbone.embeddings.weight", (vocabulary, hidden))
        for index, kind in enumerate(kinds):
            yield Tensor(f"backbone.layers.{index}.norm.weight", (hidden,))
            yield from shapes[kind](f"backbone.layers.{index}.mixer")
        yield Tensor("backbone.norm_f.weight", (hidden,))
        if not fields.flag("tie_word_embeddings"):
            yield from linear("lm_head", vocabulary, hidden)
        yield from drafts()

    def drafts() -> Iterator[Tensor]:
        """The MTP layer: attention and experts, which share embedding and lm_head with the model."""
        for index, kind in enumerate(draft_kinds):
            prefix = f"mtp.layers.{index}"
            if index == 0:
                yield Tensor(f"{prefix}.enorm.weight", (hidden,))
                yield Tensor(f"{prefix}.hnorm.weight", (hidden,))
                yield from linear(f"{prefix}.eh_proj", hidden, 2 * hidden)
            yield Tensor(f"{prefix}.norm.weight", (hidden,))
            yield from shapes[kind](f"{prefix}.mixer")
        if draft_kinds:
            yield Tensor(f"mtp.layers.{len(draft_kinds) - 1}.final_layernorm.weight", (hidden,))

    recurrent = Recurrent(
        kinds.count("linear_attention"),
        mamba.channels,
        mamba.kernel,
        (mamba.heads, mamba.head_size, mamba.state_size),
        # vLLM's default for this family, NemotronHForCausalLMConfig.DEFAULT_MAMBA_SSM_CACHE_DTYPE.
        fields.text("mamba_ssm_cache_dtype", default="float32"),
    )
    return Architecture(
        family="nemotron_h",
        dtype=fields.text("dtype", "torch_dtype", default="bfloat16"),
        tensors=tuple(tensors()),
        layers=len(kinds),
        hidden=hidden,
        vocabulary=vocabulary,
        max_tokens=tokens(fields.values),
        widest=max(attention.widest, mamba.widest, inner, moe.widest if moe else 0),
        attention=tuple(
            Attention(count, attention.kv_heads, attention.head_size)
            for count in (kinds.count("full_attention"),)
            if count
        ),
        recurrent=recurrent if recurrent.layers else None,
        experts=moe.experts if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
        draft=Attention(draft_kinds.count("full_attention"), attention.kv_heads, attention.head_size)
        if "full_attention" in draft_kinds
        else None,
    )


def _kinds(fields: Fields) -> list[str]:
    kinds = _named(fields, "hybrid_override_pattern", "layers_block_type", "layer_types")
    if not kinds:
        raise fields.lacks("hybrid_override_pattern", "layers_block_type")
    return kinds


def _draft_kinds(fields: Fields) -> list[str]:
    """Those of one MTP layer, of which vLLM serves no more (nemotron_h_mtp.py)."""
    if not fields.whole("num_nextn_predict_layers", default=0):
        return []
    return _named(fields, "mtp_hybrid_override_pattern", "mtp_layers_block_type")


def _named(fields: Fields, pattern_name: str, *list_names: str) -> list[str]:
    """The kinds that a list spells out, or else a pattern of letters."""
    types = next((words for name in list_names if (words := fields.words(name))), None)
    pattern = fields.text(pattern_name)
    kinds = types or [_PATTERN.get(letter, letter) for letter in pattern]
    kinds = ["linear_attention" if kind == "mamba" else kind for kind in kinds]
    kinds = ["full_attention" if kind == "attention" else kind for kind in kinds]
    unknown = sorted(set(kinds) - set(_PATTERN.values()))
    if unknown:
        raise UserError(
            f"{fields.model}: config.json has layers of kind {unknown[0]!r} (known: "
            f"{', '.join(_PATTERN.values())}); fetch the checkpoint's config.json again"
        )
    return kinds


def _latent(fields: Fields) -> int:
    """The width that experts work in, 0 where it is the model's."""
    return fields.whole("moe_latent_size", default=0)


def _expert_layer(moe: MoeShape, latent: int, hidden: int, prefix: str) -> Iterator[Tensor]:
    yield from moe.tensors(prefix)
    if latent:
        yield from linear(f"{prefix}.fc1_latent_proj", latent, hidden)
        yield from linear(f"{prefix}.fc2_latent_proj", hidden, latent)


def _moe(fields: Fields, hidden: int, bias: bool) -> MoeShape:
    shared = fields.whole("n_shared_experts", default=0)
    width = fields.positive("moe_shared_expert_intermediate_size") * shared if shared else 0
    inputs = _latent(fields) or hidden
    expert = MlpShape(inputs, fields.positive("moe_intermediate_size"), gated=False, bias=bias)
    return MoeShape(
        expert,
        fields.positive("n_routed_experts"),
        fields.positive("num_experts_per_tok"),
        shared=("shared_experts", MlpShape(hidden, width, gated=False, bias=bias)) if shared else None,
        correction=True,
        hidden=hidden,
    )
