"""Limits: what vLLM asks before a request goes to XGrammar."""

import json
from typing import TYPE_CHECKING, Any

from dgx_vllm.structured import regex, schema

if TYPE_CHECKING:
    from vllm.sampling_params import StructuredOutputsParams


def check(params: "StructuredOutputsParams") -> None:
    """Refuses what XGrammar would ignore.

    Not of structural tags: most come from tools, whose schemas are a hint unless they are strict.

    Raises:
        VLLMValidationError: says what it is.
    """
    from vllm.exceptions import VLLMValidationError

    reason = _ignored(params)
    if reason:
        raise VLLMValidationError(f"XGrammar would not honour {reason}")


def _ignored(params: "StructuredOutputsParams") -> str | None:
    if params.regex:
        reason = regex.misread(params.regex)
        return reason and f"regex {params.regex!r}: {reason}"
    if params.json:
        return schema.ignored(_decoded(params.json), _compiles)
    return None


def _compiles(expression: str) -> str | None:
    import xgrammar

    try:
        xgrammar.Grammar.from_regex(expression)
    except Exception as error:  # whatever its C++ raises
        return str(error).rpartition("position")[2].partition(":")[2].strip() or str(error)
    return None


def _decoded(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:  # vLLM says so itself
        return None
