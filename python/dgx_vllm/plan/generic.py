"""Generic: what the fields that models have in common say of an architecture of no known family.

Names are those that vLLM 0.32 reads: transformers_utils/model_arch_config_convertor.py, its models, and the
attribute maps of their config classes. tests/plan/test_names.py holds the lists against that code. What no
field tells is `Unknown`, and nothing is made up for it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dgx_vllm.checkpoints import context_length
from dgx_vllm.checkpoints.context_length import tokens
from dgx_vllm.checkpoints.fields import Fields, text_part
from dgx_vllm.plan import dtypes
from dgx_vllm.plan.architecture import Architecture, Attention, Unknown

LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
VOCABULARY = ("vocab_size", "padded_vocab_size")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = (
    *("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"),
    *("kv_n_heads", "n_kv_heads"),
)
HEAD_SIZE = ("head_dim", "hidden_size_per_head", "attention_head_dim", "kv_channels")
EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k"),
    *("moe_k", "experts_per_token", "moe_experts_per_token"),
)
#: How many draft layers follow the model's own.
DRAFT_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")

#: What vLLM takes for multi-head latent attention (is_deepseek_mla), if there is a kv_lora_rank.
LATENT = (
    *("axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v41", "dots3_note"),
    *("deepseek_mtp", "k3_dspark", "glm5_next", "glm5_next_text", "glm_moe_dsa", "glm4_moe_lite"),
    *("glm4_moe_lite_mtp", "kimi_k2", "kimi_linear", "longcat_flash", "pangu_ultra_moe"),
    *("pangu_ultra_moe_mtp", "bailing_hybrid", "bailing_hybrid_mtp", "bailing_hybrid_v3_mtp", "hy_v4"),
    "hy_v4_mtp",
)

_FULL = ("full_attention", "attention", "global_attention", "chunked_attention")
_SLIDING = ("sliding_attention", "sliding_window", "local_attention", "swa")

# Fields of layers that keep more than keys and values of each token, or keep them more than once: recurrent
# states, indexers of sparse attention, compressed caches, loops over the same layers, cross attention.
_MORE = re.compile(
    r"mamba|ssm|state_size|conv_kernel|conv_l_cache|linear_attn|linear_num_|linear_conv|kda|lightning|rwkv"
    r"|recurrent|layer_group_size|index_topk|index_head_dim|compress_ratio|_cycles$|loop_num|num_loops"
    r"|is_encoder_decoder|block_configs|hybrid_override_pattern|sparse_attention_config",
    re.IGNORECASE,
)

#: Every field that is read here; `defaults` asks a config's class for those that a config.json leaves out.
FIELDS = (
    *(*LAYERS, *HIDDEN, *VOCABULARY, *HEADS, *KV_HEADS, *HEAD_SIZE, *EXPERTS, *PER_TOKEN, *DRAFT_LAYERS),
    *(
        *context_length.KEYS,
        "kv_lora_rank",
        "qk_rope_head_dim",
        "qk_nope_head_dim",
        "v_head_dim",
        "layer_types",
    ),
    *("sliding_window", "multi_query", "new_decoder_architecture", "attention_k_eq_v", "per_layer_config"),
)


def read(model: str, config: Mapping[str, Any]) -> Architecture:
    """What the common fields say: no tensors, and of layers whose window is not stated that they keep every
    token, so that a sequence keeps at most as much.

    Args:
        model: what the user called the model, for messages.
        config: its config.json.
    """
    fields = _flat(text_part(model, config))
    layers, hidden = layer_count(fields), fields.found(*HIDDEN)
    vocabulary = fields.found(*VOCABULARY)
    attention = _attention(fields, layers or 0, hidden or 0)
    experts, per_token = fields.found(*EXPERTS) or 0, fields.found(*PER_TOKEN) or 0
    dtype = dtypes.named(fields.text("dtype", "torch_dtype", default="bfloat16"))
    values = {
        Unknown.LAYERS: layers,
        Unknown.HIDDEN: hidden,
        Unknown.VOCABULARY: vocabulary,
        Unknown.CACHE: attention,
        Unknown.EXPERTS: bool(experts) == bool(per_token),
    }
    return Architecture(
        family=fields.text("model_type", default="unknown"),
        dtype=dtype,
        tensors=(),
        layers=layers or 0,
        hidden=hidden or 0,
        vocabulary=vocabulary or 0,
        max_tokens=tokens(config),
        widest=4 * (hidden or 0),
        attention=attention,
        experts=experts if per_token else 0,
        experts_per_token=per_token if experts else 0,
        unknown=frozenset(what for what, value in values.items() if not value),
    )


def _flat(fields: Fields) -> Fields:
    """With what DBRX says of attention and experts in parts of their own."""
    parts = (fields.values.get(name) for name in ("attn_config", "ffn_config"))
    more = {name: value for part in parts if isinstance(part, Mapping) for name, value in part.items()}
    return Fields(fields.model, {**more, **fields.values})


def layer_count(fields: Fields) -> int | None:
    """How many layers there are, by a number or by a list of what each is."""
    lists = (fields.values.get(name) for name in ("layers_block_type", "layer_types"))
    listed = next((len(each) for each in lists if isinstance(each, list) and each), None)
    return fields.found(*LAYERS) or listed or len(fields.text("hybrid_override_pattern")) or None


def beyond(fields: Fields) -> range:
    """The numbers of draft layers that follow on the model's own."""
    begin, count = layer_count(fields) or 0, fields.found(*DRAFT_LAYERS) or 0
    return range(begin, begin + count) if begin else range(0)


def draft(fields: Fields, layers: int) -> Attention | None:
    """The KV cache of `layers` draft layers, which are as the model's own; None where that is not told."""
    attention = _attention(fields, 1, fields.found(*HIDDEN) or 0)
    return Attention(layers, attention[0].heads, attention[0].head_size) if attention else None


def _attention(fields: Fields, layers: int, hidden: int) -> tuple[Attention, ...]:
    """Layers with a KV cache by kind; empty where the config does not tell all that they keep."""
    if not layers or any(value for name, value in fields.values.items() if _MORE.search(name)):
        return ()
    if 0 in fields.numbers("attn_type_list"):  # linear attention, MiniMax-Text-01's; M2 has 1 alone
        return ()
    family = fields.text("model_type")
    if family.startswith("longcat_flash") and fields.found("num_layers"):
        layers = 2 * (fields.found("num_layers") or 0)  # two attention layers in each
    latent = fields.found("kv_lora_rank")
    if latent:
        return (_latent(fields, family, layers, latent),) if fields.found("qk_rope_head_dim") else ()
    heads = fields.found(*HEADS)
    kv_heads = fields.values.get("num_key_value_heads")
    kinds = fields.values.get("layer_types") or [_FULL[0]] * layers
    size = _head_size(fields, hidden, heads)
    if not isinstance(kinds, list) or len(kinds) < layers or size is None:
        return ()
    if isinstance(kv_heads, list) and len(kv_heads) < layers:
        return ()
    layers_by_attention: Counter[Attention] = Counter()
    for index, kind in enumerate(kinds[:layers]):
        if kind not in _FULL and kind not in _SLIDING:
            return ()
        kv_count = kv_heads[index] if isinstance(kv_heads, list) else _kv_heads(fields, heads)
        count, width = _of_layer(fields, index, str(kind), kv_count, size)
        if not isinstance(count, int) or count < 1:
            return ()
        window = fields.found("sliding_window") if kind in _SLIDING else None
        layers_by_attention[Attention(1, count, width, window)] += 1
    return tuple(
        Attention(count, kind.heads, kind.head_size, kind.window)
        for kind, count in layers_by_attention.items()
    )


def _latent(fields: Fields, family: str, layers: int, latent: int) -> Attention:
    """Latent attention keeps one vector for key and value together (vLLM's MLAAttentionSpec)."""
    rope = fields.found("qk_rope_head_dim") or 0
    if family in LATENT:
        return Attention(layers, 1, (latent + rope + 1) // 2)
    # Of others vLLM keeps the keys and values that come out of it, head by head.
    wide = max(rope + (fields.found("qk_nope_head_dim") or 0), fields.found("v_head_dim") or 0)
    return Attention(layers, fields.found(*HEADS) or 1, wide)


def _head_size(fields: Fields, hidden: int, heads: int | None) -> int | None:
    size = fields.found(*HEAD_SIZE) or (hidden // heads if heads else 0)
    # Keys and values may differ, and so may the kinds of layers: the widest is the most.
    others = (fields.found(name) or 0 for name in ("v_head_dim", "swa_head_dim", "swa_v_head_dim"))
    return max(size, *others) or None


def _kv_heads(fields: Fields, heads: int | None) -> int | None:
    if fields.flag("multi_query") and not fields.flag("new_decoder_architecture"):
        return 1  # Falcon, GPT-BigCode
    found = fields.found(*KV_HEADS)
    if "multi_query_attention" in fields.values and not fields.flag("multi_query_attention"):
        found = None  # ChatGLM
    most = max(found or 0, fields.found("swa_num_key_value_heads") or 0)
    return most if found else heads


def _of_layer(fields: Fields, index: int, kind: str, heads: int | None, size: int) -> tuple[int | None, int]:
    """A layer's key/value heads and their size, where layers of one model differ."""
    if kind in _FULL and fields.found("global_head_dim"):  # Gemma 4
        size = fields.found("global_head_dim") or size
        if fields.flag("attention_k_eq_v"):
            heads = fields.found("num_global_key_value_heads") or heads
    other = fields.values.get("attention_other_setting")  # Step 3.5
    if isinstance(other, Mapping) and other.get("attention_type") == kind:
        heads, size = other.get("num_attention_groups", heads), other.get("head_dim", size)
    each = fields.values.get("per_layer_config")  # transformers' own way
    own = (each.get(str(index)) or each.get(index) or each.get(kind)) if isinstance(each, Mapping) else None
    if isinstance(own, Mapping):
        heads, size = own.get("num_key_value_heads", heads), own.get("head_dim", size)
    return heads, size
