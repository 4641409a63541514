"""Pairs: whether a draft model fits the model that it is to draft for, as far as both configs tell.

vLLM 0.32 compares next to nothing of them before it has loaded both. Of `draft_model` it refuses another
vocabulary, in config/speculative.py. All else it finds too late, or not at all:

| what does not match | what vLLM does |
|---|---|
| hidden size, layers that are not there | an error of shapes, once both models are loaded |
| vocabulary | an index out of bounds at some request, or drafts that are never right |
| no table from a smaller vocabulary | with DSpark an error while it loads; else drafts that are never right |
| more drafts than the block has | it makes them; they are seldom right |
| a draft model for another model of that shape | it drafts; hardly any draft is right |

The sources are models/llama_eagle3.py, qwen3_dflash.py, qwen3_dflash2.py and qwen3_dspark.py, and
v1/worker/gpu/spec_decode.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints import checkpoint, headers
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.fields import Fields, text_part
from dgx_vllm.plan import draft_shapes
from dgx_vllm.util.errors import UserError

#: Methods that read hidden states of the model's layers.
_READERS = ("eagle3", "dflash", "dspark")
#: Classes that take the width of the hidden states from the model, or have a config of their own kind.
_OTHER_WIDTHS = (
    "DFlashLagunaForCausalLM",
    "LiLiCorrDraftModel",
    "MuseGlimmerAssistantModel",
    "K3DSparkModel",
)
#: By what vLLM knows a method whose name was not given: a part of the name in lower case.
_BY_NAME = (("eagle-", "eagle"), ("eagle3", "eagle3"), ("dflash", "dflash"), ("dspark", "dspark"))
#: Gemma's drafters, which are given as `mtp`.
_ASSISTANTS = ("gemma4_assistant", "gemma4_unified_assistant")
#: What the table from the drafted tokens to the model's is called.
_TABLES = ("d2t", "draft_id_to_target_id")
#: How many billions of parameters a model's name says that it has.
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """What is compared.

    Args:
        model: the model that is served, as it was named.
        draft: the draft model.
        config: the model's config.json.
        draft_config: the draft model's.
        drafts: tokens to draft for each step, None where nobody says.
        heterogeneous: whether other vocabularies were allowed, with `use_heterogeneous_vocab`.
        place: the draft model's directory.
    """

    model: str
    draft: DraftModel
    config: Mapping[str, Any]
    draft_config: Mapping[str, Any]
    drafts: int | None
    heterogeneous: bool
    place: Path

    @property
    def method(self) -> str:
        """How is drafted, by vLLM's name: as given, or as vLLM finds out."""
        given = self.draft.method
        if given in ("eagle", *_READERS):
            return str(given)
        name = self.draft.name.lower()
        named = next((method for part, method in _BY_NAME if part in name), None)
        kind = draft_shapes.kind(self.draft_config)
        return named or (kind if kind == "dspark" else None) or given or "draft_model"


def check(pair: Pair) -> list[str]:
    """Refuses a pair that cannot work.

    Returns:
        What is worth knowing of one that may.

    Raises:
        UserError: says which values do not match.
    """
    model, draft = text_part(pair.model, pair.config), _draft_fields(pair)
    method, kind = pair.method, draft_shapes.kind(pair.draft_config)
    if kind and method == "draft_model":
        named = "eagle3" if kind == "peagle" else kind
        raise UserError(
            f"vLLM 0.32 would take {pair.draft.name} for a whole model, and it is a draft model of the kind "
            f"{named}; give --spec-method {named}"
        )
    if method in _READERS:
        _check_width(pair, model, draft)
        _check_layers(pair, model, draft)
    elif method == "eagle":
        _compare(pair, "hidden_size", draft.found("hidden_size"), model.found("hidden_size"))
    elif pair.draft_config.get("model_type") in _ASSISTANTS:
        backbone = pair.draft_config.get("backbone_hidden_size")
        _compare(pair, "backbone_hidden_size", backbone, model.found("hidden_size"), "hidden_size")
    _check_vocabulary(pair, method, model, draft)
    return [*_check_count(pair, draft), *_other_verifier(pair)]


def check_own(model: str, method: str | None) -> None:
    """Refuses drafts by the model's own MTP layers where vLLM would make another kind of drafts of them.

    It tells some methods by the name of what drafts, which then is the model's, before it looks at `method`.

    Raises:
        UserError: the model's name has a method's name in it.
    """
    part, taken = next(((part, name) for part, name in _BY_NAME if part in model.lower()), ("", ""))
    if part and method is not None and method.endswith("mtp"):
        raise UserError(
            f"vLLM 0.32 would take drafts by {method} for {taken}, because the model's name {model} has "
            f"{part!r} in it; give a directory whose path has not, such as a link to it"
        )


def _draft_fields(pair: Pair) -> Fields:
    """The draft model's fields by their names, whichever part of its config holds them."""
    values = dict(text_part(pair.draft.name, pair.draft_config).values)
    for name in ("transformer_layer_config", "dflash_config", "eagle_config"):
        part = pair.draft_config.get(name)
        if isinstance(part, Mapping):
            values = {**part, **{key: value for key, value in values.items() if value is not None}}
    return Fields(pair.draft.name, values)


def _check_width(pair: Pair, model: Fields, draft: Fields) -> None:
    """The hidden states that the draft model reads are as wide as the model's."""
    if set(_architectures(pair.draft_config)) & set(_OTHER_WIDTHS):
        return
    name = "target_hidden_size" if draft.found("target_hidden_size") else "hidden_size"
    _compare(pair, name, draft.found(name), model.found("hidden_size"), "hidden_size")


def _check_layers(pair: Pair, model: Fields, draft: Fields) -> None:
    """The layers that the draft model reads are there, and as many as it was made for."""
    count = model.found("num_hidden_layers")
    _compare(pair, "num_target_layers", draft.found("num_target_layers"), count, "num_hidden_layers")
    name, read = _layers(draft)
    if count and read and max(read) > count:
        raise UserError(
            f"the draft model {pair.draft.name} does not fit {pair.model}: it reads the output of layer "
            f"{max(read)}, counted from 1 ({name}), and the model has {count} layers; give a draft model "
            "that was made for it, or --spec-tokens 0 for no drafts"
        )


def _layers(draft: Fields) -> tuple[str, list[int]]:
    """The layers whose output is read, counted from 1, and the field that says so.

    As get_eagle3_aux_layers_from_config in v1/worker/gpu/spec_decode/eagle/eagle3_utils.py.
    """
    for name in ("eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids"):
        if draft.numbers(name):
            return name, draft.numbers(name)
    for name in ("dspark_target_layer_ids", "target_layer_ids"):
        if draft.numbers(name):
            return name, [layer + 1 for layer in draft.numbers(name)]
    return "", []


def _check_vocabulary(pair: Pair, method: str, model: Fields, draft: Fields) -> None:
    """The tokens that are drafted are the model's, or a part of them with a table."""
    size, own = model.found("vocab_size"), draft.found("vocab_size")
    reduced = draft.found("draft_vocab_size")
    if size is None or pair.heterogeneous or method in ("medusa", "mlp_speculator"):
        return
    # A padded vocabulary may be larger with DSpark, whose checkpoint then has an embedding of its own.
    if own and not (method == "dspark" and own > size):
        other = ", or set use_heterogeneous_vocab" if method == "draft_model" else ""
        _compare(pair, "vocab_size", own, size, other=other)
    if reduced and reduced > size and method in ("eagle3", "dflash"):
        _compare(pair, "draft_vocab_size", reduced, size, "vocab_size")
    if not reduced or reduced >= size or method not in _READERS or not _has_headers(pair.place):
        return
    if not any(table in name for name in headers.read(pair.place) for table in _TABLES):
        raise UserError(
            f"the draft model {pair.draft.name} drafts {reduced} of {size} tokens (draft_vocab_size), and "
            f"its weights have no table from one to the other (d2t); fetch it again, or give --spec-tokens 0 "
            "for no drafts"
        )


def _has_headers(place: Path) -> bool:
    return headers.present(place) and headers.whole(place)


def _check_count(pair: Pair, draft: Fields) -> list[str]:
    """DFlash and DSpark draft a block at once; what lies beyond it they were not trained for."""
    block = draft.found("block_size", "dspark_block_size")
    most = draft_shapes.most(pair.draft_config)
    if pair.drafts is None or pair.method not in ("dflash", "dspark") or not block or not most:
        return []
    if pair.drafts > block:
        raise UserError(
            f"{pair.drafts} drafts are more than the draft model {pair.draft.name} can make at once: its "
            f"block_size is {block}; set num_speculative_tokens to {most}"
        )
    if pair.drafts > most:
        return [
            f"the draft model {pair.draft.name} was trained for {most} drafts at once (block_size {block}); "
            f"of {pair.drafts} the last is seldom right"
        ]
    return []


def _other_verifier(pair: Pair) -> list[str]:
    """What a config of the speculators library says of the model that it was made for.

    Copies of a model that are quantized or tuned further have other names. A name that says another size
    names no copy.

    Raises:
        UserError: it was made for a model of another size.
    """
    config = pair.draft_config.get("speculators_config")
    verifier = config.get("verifier") if isinstance(config, Mapping) else None
    made_for = verifier.get("name_or_path") if isinstance(verifier, Mapping) else None
    if not isinstance(made_for, str) or any(map(checkpoint.looks_like_path, (made_for, pair.model))):
        return []
    short = made_for.rpartition("/")[2].lower()
    if not short or short in pair.model.lower():
        return []
    sizes = [_SIZE.search(name.rpartition("/")[2]) for name in (made_for, pair.model)]
    if all(sizes) and len({float(size[1]) for size in sizes if size}) > 1:
        raise UserError(
            f"the draft model {pair.draft.name} was made for {made_for}, not for {pair.model}; give one that "
            "was, or --spec-tokens 0 for no drafts"
        )
    return [
        f"the draft model {pair.draft.name} was made for {made_for}; if {pair.model} is not a copy of that, "
        "few of its drafts will be right"
    ]


def _compare(
    pair: Pair, name: str, drafts: object, models: int | None, model_name: str = "", other: str = ""
) -> None:
    """Refuses two values that are there and differ; `other` is one more remedy."""
    if not isinstance(drafts, int) or models is None or drafts == models:
        return
    raise UserError(
        f"the draft model {pair.draft.name} does not fit {pair.model}: its {name} is {drafts}, and the "
        f"model's {model_name or name} is {models}; give a draft model that was made for it, or "
        f"--spec-tokens 0 for no drafts{other}"
    )


def _architectures(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []
