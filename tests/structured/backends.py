"""What XGrammar and guidance let through of a JSON Schema, byte by byte, without a model."""

import json
from functools import cache
from typing import Any

import llguidance
import xgrammar
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

from dgx_vllm.structured import schema
from dgx_vllm.structured.request_check import _compiles

_END = 256


@cache
def _compiler() -> xgrammar.GrammarCompiler:
    tokens = [bytes([byte]) for byte in range(_END)] + [b"</s>"]
    info = xgrammar.TokenizerInfo(
        tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=_END + 1, stop_token_ids=[_END]
    )
    return xgrammar.GrammarCompiler(info)


def text_of(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class XGrammar:
    """A schema as XGrammar reads it; `refusal` where it, vLLM or our limits refuse it."""

    def __init__(self, given: Any) -> None:
        self.refusal: str | None = schema.ignored(given, _compiles)
        if has_xgrammar_unsupported_json_features(given):
            self.refusal = "vLLM says so"
        if self.refusal is None:
            try:
                self._grammar = _compiler().compile_json_schema(
                    json.dumps(given), any_whitespace=False, separators=(",", ":")
                )
            except RuntimeError as error:
                self.refusal = str(error)

    def accepts(self, value: Any) -> bool:
        matcher = xgrammar.GrammarMatcher(self._grammar)
        if not matcher.accept_string(text_of(value)):
            return False
        mask = xgrammar.allocate_token_bitmask(1, _END + 1)
        matcher.fill_next_token_bitmask(mask)
        return bool(int(mask[0, _END // 32]) >> (_END % 32) & 1)


class Guidance:
    """A schema as guidance reads it."""

    def __init__(self, given: Any) -> None:
        self._tokenizer = llguidance.LLTokenizer("byte")
        self.refusal: str | None = None
        try:
            self._grammar = llguidance.LLMatcher.grammar_from_json_schema(
                given, defaults={"whitespace_flexible": False}
            )
        except (ValueError, TypeError) as error:
            self.refusal = str(error)
        else:
            self.refusal = llguidance.LLMatcher.validate_grammar(self._grammar, self._tokenizer) or None

    def accepts(self, value: Any) -> bool:
        matcher = llguidance.LLMatcher(self._tokenizer, self._grammar)
        text = list(text_of(value).encode())
        return matcher.try_consume_tokens(text) == len(text) and matcher.is_accepting()
