"""The longest context of a model, by vLLM 0.32's own rule.

The rule is `_get_and_verify_max_len` in vllm/config/model.py with `derive_max_model_len_and_key` in
vllm/transformers_utils/model_arch_config_convertor.py.
tests/checkpoints/test_context_length.py asks those two.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints.checkpoint import json_object
from dgx_vllm.checkpoints.fields import language_part

KEYS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
#: Kinds of RoPE whose configs give positions that are stretched already.
_STRETCHED = ("su", "longrope", "llama3", "yarn", "telechat3-yarn", "deepseek_yarn", "deepseek_llama_scaling")
#: Where sentence-transformers keeps a limit of its own.
_SENTENCE_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_LIMIT = "max_seq_length"


@dataclass(frozen=True)
class Longest:
    """What a config says of the longest context.

    Args:
        tokens: how many it may have.
        key: the field that says so.
        allowed: how many may be asked for: a model_max_length above `tokens` is one that vLLM lets pass.
    """

    tokens: int
    key: str
    allowed: int


def longest(
    config: Mapping[str, Any],
    windowed: bool = True,
    tokenizer: Mapping[str, Any] | None = None,
    encoder: Mapping[str, Any] | None = None,
) -> Longest | None:
    """The longest context.

    Args:
        config: the model's config.json.
        windowed: whether sliding windows are used, not switched off by --disable-sliding-window.
        tokenizer: its tokenizer_config.json where that limits it: a pooling model with absolute positions.
        encoder: what sentence-transformers says of it.

    Returns:
        None where no field says it, so that its class does or, where that has none, nothing limits it.
    """
    fields = language_part(config)
    limits = {key: value for key in KEYS if (value := _number(fields.get(key))) is not None}
    key, most = min(limits.items(), key=lambda each: each[1], default=("", float("inf")))
    own = _number(fields.get("model_max_length"))
    if own:
        key, most = "model_max_length", own  # Command-R's
    window = _number(fields.get("sliding_window"))
    # A window of 0 is none; Qwen2 and its kin give one that they do not use.
    if not windowed and window and window < most and fields.get("use_sliding_window", True):
        key, most = "sliding_window", window
    limit = _number((tokenizer or {}).get("model_max_length"))
    if limit is not None and limit < most:
        key, most = "model_max_length in tokenizer_config.json", limit
    if most == float("inf"):
        return None
    most *= _stretch(fields)
    limit = _number((encoder or {}).get(_LIMIT))
    if limit is not None:
        key, most = _LIMIT, limit
    return Longest(int(most), key, max(int(most), int(own or 0)))


def tokens(config: Mapping[str, Any]) -> int | None:
    """The longest context by the config alone, None where it does not say."""
    limit = longest(config)
    return limit.tokens if limit and limit.tokens > 0 else None


def encoder(directory: Path) -> dict[str, Any] | None:
    """What sentence-transformers says of the model in a directory, None where it does not limit it."""
    for name in _SENTENCE_FILES:
        if (directory / name).is_file():
            config = json_object(directory / name)
            if config:
                return config if _LIMIT in config else None
    return None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _stretch(fields: Mapping[str, Any]) -> float:
    """By how much RoPE's parameters stretch the positions that a config gives."""
    ropes = list(_ropes(fields))
    if not ropes or "gemma3" in str(fields.get("model_type")):
        return 1  # Gemma 3's positions are stretched already
    factor: Any = 1.0
    for rope in ropes:
        if rope.get("rope_type", rope.get("type", "default")) not in _STRETCHED:
            factor = rope.get("factor", factor)
    return _number(factor) or 1.0


def _ropes(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """RoPE's parameters, of each kind of layer where they differ."""
    parameters = fields.get("rope_scaling") or fields.get("rope_parameters")
    if not isinstance(parameters, Mapping):
        return
    kinds = list(parameters.values())
    if kinds and all(kind is None or isinstance(kind, Mapping) for kind in kinds):
        yield from (kind for kind in kinds if kind)
    elif parameters:
        yield parameters
