"""A pattern that passes is read as its author meant it."""

import re

import pytest
import xgrammar
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.structured.regex import misread
from dgx_vllm.structured.request_check import _compiles

PARTS = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    r"\d",
    r"\.",
    "^",
    "$",
    "|",
    "(",
    ")",
    "(?:",
    "*",
    "+",
    "?",
    "{2}",
    r"\A",
    r"\Z",
]
TEXTS = ["", "a", "b", "ab", "ba", "aa", "bb", "aab", "1", "1a", ".", "a\n", "\n", "A", "Z", "A1Z"]


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        "^abc$",
        "^a|b$",
        "^(a|b)$",
        "(^a)b",
        "a(b$)",
        r"\d+\.\d{2}",
        r"[\w\-]+",
        "[.$^]",
        "a{1,3}?",
        r"\$\^",
        "[:alpha:]",
        r"\0\x41[\x00-\x1f]",
    ],
)
def test_a_pattern_that_is_read_right_passes(pattern: str) -> None:
    assert misread(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a.b", "a dot"),
        ("a$b", "$ within"),
        ("a^b", "^ within"),
        ("(a$)b", "$ within"),
        ("(a$)*", "$ within"),
        ("a(^b)", "^ within"),
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"\Aa", r"\A"),
        (r"a\Z", r"\Z"),
        (r"[\p{L}]", r"\p"),
        (r"\P{L}", r"\P"),
        (r"\bfoo", r"\b"),
        (r"(a)\1", r"\1"),
        ("[[:alpha:]]+", "[:alpha:]"),
        ("[a[:^digit:]]", "[:^digit:]"),
        (r"\07", r"\07"),
        (r"[\012]", r"\012"),
        (r"\xZZ", r"\x"),
        (r"[\x4]", r"\x"),
    ],
)
def test_a_pattern_that_would_be_misread_is_named(pattern: str, reason: str) -> None:
    assert reason in (misread(pattern) or "")


@settings(max_examples=1000, deadline=None)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=6))
def test_whatever_passes_matches_as_python_matches(parts: list[str]) -> None:
    pattern = "".join(parts)
    try:
        meant = re.compile(pattern)
    except re.error:
        return
    if misread(pattern) is not None or _compiles(pattern) is not None:
        return
    tokens = [bytes([byte]) for byte in range(128)] + [b"</s>"]
    info = xgrammar.TokenizerInfo(
        tokens, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(tokens), stop_token_ids=[128]
    )
    compiled = xgrammar.GrammarCompiler(info).compile_regex(pattern)
    for text in TEXTS:
        matcher = xgrammar.GrammarMatcher(compiled)
        if matcher.accept_string(text):
            mask = xgrammar.allocate_token_bitmask(1, len(tokens))
            matcher.fill_next_token_bitmask(mask)
            if int(mask[0, 4]) & 1:
                assert meant.search(text), f"{pattern!r} lets {text!r} through"
