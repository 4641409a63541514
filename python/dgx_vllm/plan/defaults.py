"""Defaults: the fields that a config.json leaves to its class, by the classes that vLLM reads it with."""

from collections.abc import Mapping
from typing import Any

from dgx_vllm.checkpoints.fields import text_part
from dgx_vllm.plan.generic import FIELDS


def filled(model: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The language model's fields with those that its class adds.

    Importing the classes takes seconds: this is for `plan`, and not for the start of a server.

    Returns:
        None where there is no class for it: remote code, or vLLM is not installed.
    """
    try:
        text = _class(str(config.get("model_type"))).from_dict(dict(config)).get_text_config()
    except Exception:  # whatever a class makes of a config that is not quite its own
        return None
    added = {name: value for name in FIELDS if (value := _of(text, name)) is not None}
    return {**text.to_dict(), **added, **text_part(model, config).values}


def _class(model_type: str) -> Any:
    """vLLM's own class, or else transformers'.

    Raises:
        KeyError: there is none.
    """
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    return _CONFIG_REGISTRY[model_type] if model_type in _CONFIG_REGISTRY else CONFIG_MAPPING[model_type]


def _of(config: Any, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # a field that differs by layer
        return None
