"""Parts: what a tensor is for, by its name in the checkpoint, be it planned or stored."""

import enum
import re


class Part(enum.StrEnum):
    """A kind of weights that a decode step reads in the same manner."""

    EMBEDDING = "embedding"
    GDN_IN = "GDN in_proj_qkvz"
    GDN_CONV = "GDN in_proj_ba, conv"
    GDN_OUT = "GDN out_proj"
    MAMBA_IN = "Mamba in_proj"
    MAMBA_CONV = "Mamba conv"
    MAMBA_OUT = "Mamba out_proj"
    ATTENTION_QKV = "attention q/k/v"
    ATTENTION_OUT = "attention o_proj"
    MLP = "dense MLP"
    ROUTER = "router"
    SHARED_EXPERT = "shared expert"
    EXPERTS = "routed experts"
    NORMS = "norms and scalars"
    LM_HEAD = "lm_head"
    DRAFT_FC = "draft's fc"
    DRAFT_TABLES = "draft's tables"
    DRAFT_HEAD = "draft's Markov head"
    VISION = "vision"
    OTHER = "other"


# The first that matches counts. Names are those of Hugging Face checkpoints of the families in `families`.
_RULES: tuple[tuple[re.Pattern[str], Part], ...] = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (
            r"(^|\.)(visual|vision_tower|vision_model|multi_modal_projector|vision_encoder|embed_vision)\.",
            Part.VISION,
        ),
        # Second names are those of Mistral's own format.
        (r"(^|\.)lm_head\.|^output\.", Part.LM_HEAD),
        (
            r"(^|\.)(embed_tokens|embeddings|word_embeddings|wte|tok_embeddings)\.",
            Part.EMBEDDING,
        ),
        (r"(^|\.)mtp\.fc\.|\.eh_proj\.|^(model\.)?fc\.", Part.DRAFT_FC),
        # Rows of these are gathered, as the embedding's are.
        (r"\.(predecessor|successor)_codebook$|\.markov_w1(\.|$)", Part.DRAFT_TABLES),
        (r"\.markov_w2(\.|$)", Part.DRAFT_HEAD),
        (r"\.experts\.|\.experts$", Part.EXPERTS),
        # Experts in one tensor each: Step's and Granite's names.
        (r"\.moe\.(gate_proj|up_proj|down_proj|gate_up_proj)(\.|$)", Part.EXPERTS),
        (r"\.block_sparse_moe\.(input_linear|output_linear)\.", Part.EXPERTS),
        (
            r"^layers\.\d+\.gate\.|\.layers\.\d+\.router\.|\.shared_expert_gate\.|\.(mlp|mixer|moe|ffn|feed_forward|block_sparse_moe)\.(gate|router)\.",
            Part.ROUTER,
        ),
        (r"\.(shared_experts?|share_expert)\.", Part.SHARED_EXPERT),
        (r"norm[^.]*\.|norm[^.]*$|\.(A_log|dt_bias|D|sinks|layer_scalar)$", Part.NORMS),
        (r"\.linear_attn\.in_proj_(qkvz|qkv|z)\.", Part.GDN_IN),
        (r"\.linear_attn\.(in_proj_(ba|b|a)|conv1d)\.", Part.GDN_CONV),
        (r"\.linear_attn\.out_proj\.", Part.GDN_OUT),
        (r"\.(q_proj|k_proj|v_proj|qkv_proj)\.|\.attention\.w[qkv]\.", Part.ATTENTION_QKV),
        (r"\.(self_attn|mixer|attention)\.o_proj\.|\.attention\.wo\.", Part.ATTENTION_OUT),
        (r"\.mixer\.in_proj\.", Part.MAMBA_IN),
        (r"\.mixer\.conv1d\.", Part.MAMBA_CONV),
        (r"\.mixer\.out_proj\.", Part.MAMBA_OUT),
        (r"\.(gate_proj|up_proj|down_proj|gate_up_proj)\.|\.feed_forward\.w[123]\.", Part.MLP),
    )
)


def of(name: str) -> Part:
    """The part that a tensor belongs to."""
    return next((part for rule, part in _RULES if rule.search(name)), Part.OTHER)


# vLLM drops these as it loads the model itself (load_weights and hf_to_vllm_mapper of its models).
_DRAFT = re.compile(r"(^|\.)mtp(_[a-z_]+)?\.")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def is_draft(name: str, beyond: range = range(0)) -> bool:
    """Whether a tensor belongs to the MTP layers, which vLLM loads only to draft with.

    Args:
        name: as in the checkpoint.
        beyond: the draft layers that are numbered on from the model's own (GLM-4.5, DeepSeek-V3, Step).
    """
    if _DRAFT.search(name):
        return True
    layer = _LAYER.search(name) if beyond else None
    return layer is not None and int(layer[1]) in beyond and of(name) is not Part.VISION


def is_offered(name: str) -> bool:
    """Whether `plugin.drafts` finds a draft's experts, which it knows by the name of vLLM's module."""
    return name.startswith("mtp.")


# What speaks, in models that vLLM lets only write, and Phi-4's adapters for images and speech.
_LEFT_OUT = re.compile(
    r"^(talker|code2wav|token2wav|tts|audio_tokenizer|mimo_layers|mimo_output|mimo_norm)\."
    r"|\.lora_[AB]\.(vision|speech)\."
)


def is_left_out(name: str) -> bool:
    """Whether vLLM drops a tensor, drafts or no drafts (`hf_to_vllm_mapper` of its models)."""
    return _LEFT_OUT.search(name) is not None


# vLLM holds these in float32 whatever the model computes in; all others become --dtype.
_WIDE = re.compile(r"(^|\.)(A_log|A|e_score_correction_bias|expert_bias|hc_[a-z_]+(\.weight)?)$")


def is_wide(name: str) -> bool:
    """Whether vLLM holds a tensor in float32 in a model that computes in 16 bits."""
    return _WIDE.search(name) is not None
