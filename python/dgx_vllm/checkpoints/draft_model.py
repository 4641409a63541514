"""Draft models: a second checkpoint that makes the drafts, as --speculative-config names it.

vLLM 0.32 reads the fields in config/speculative.py (`SpeculativeConfig.__post_init__`). It loads the draft
model at `revision` of the same config, else at `main`; the model's --revision does not count. It reads the
files by `draft_load_config`, else as the model's (`get_draft_load_config` in model_loader/utils.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Methods that load no checkpoint, whatever `model` says.
_WITHOUT_MODEL = ("ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states", "custom_class")
#: Names by which `model` stands for a method.
_NAMES_OF_METHODS = ("ngram", "[ngram]")
#: Methods that may draft with a part of the model itself: those whose names end so, and DeepSeek's.
_MTP, _DSPARK = "mtp", "dspark"


@dataclass(frozen=True)
class DraftModel:
    """A checkpoint that drafts.

    Args:
        name: a directory or a Hugging Face id.
        revision: its branch, tag or commit; None for `main`.
        method: how it drafts, by vLLM's name; None where vLLM is to find out.
        load_format: as --load-format, None for the model's own.
    """

    name: str
    revision: str | None = None
    method: str | None = None
    load_format: str | None = None


def read(config: Any, model: str) -> DraftModel | None:
    """The draft model that a --speculative-config names.

    Args:
        config: its fields, or their JSON.
        model: the model that is served.

    Returns:
        None where no other checkpoint is loaded: the model's own MTP layers draft, or a Python class, or
        drafts come from the text so far.
    """
    by_name = fields(config)
    name, method = by_name.get("model"), by_name.get("method")
    if not isinstance(name, str) or not name or method in _WITHOUT_MODEL:
        return None
    if not isinstance(method, str):
        method = None
    if method is None and (name in _NAMES_OF_METHODS or _is_class(name)):
        return None
    if is_own(name, method, model):
        return None
    loading = by_name.get("draft_load_config")
    load_format = loading.get("load_format") if isinstance(loading, Mapping) else None
    return DraftModel(name, _text(by_name.get("revision")), method, _text(load_format))


def fields(config: Any) -> dict[str, Any]:
    """The fields of a --speculative-config with vLLM's names; none where it is no object."""
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError:  # which the flag is checked for
            return {}
    if not isinstance(config, Mapping):
        return {}
    return {str(name).replace("-", "_"): value for name, value in config.items()}


def is_own(name: str | None, method: str | None, model: str) -> bool:
    """Whether the model drafts for itself, by MTP layers or another part of its checkpoint.

    Args:
        name: the draft model as it was named, None where it was not.
        method: how is drafted, None where that was not given.
        model: the model that is served.
    """
    if not name:
        return method is not None and _is_part(method)
    same = name == model or Path(name).expanduser().resolve() == Path(model).expanduser().resolve()
    return same and (method is None or _is_part(method))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_part(method: str) -> bool:
    return method.endswith(_MTP) or method == _DSPARK


def _is_class(name: str) -> bool:
    """Whether vLLM takes it for a Python class: a dotted name without a slash."""
    parts = name.split(".")
    return "/" not in name and len(parts) > 1 and all(part.isidentifier() for part in parts)
