"""A schema that passes is honoured: what the backends let through satisfies it, as jsonschema says."""

from typing import Any

import pytest
from backends import Guidance, XGrammar
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


#: As clients send them: none is refused.
HONOURED: dict[str, Any] = {
    "anything": {},
    "object": of({"a": INTEGER, "b": STRING}, required=["a", "b"], additionalProperties=False),
    "nested": of({"a": of({"b": {"type": "array", "items": STRING}}, required=["b"])}, required=["a"]),
    "optional": of({"a": {"anyOf": [INTEGER, {"type": "null"}], "default": None, "title": "A"}}),
    "several types": {"type": ["integer", "null"], "minimum": 5},
    "enum": {"type": "string", "enum": ["a", "b"], "title": "E"},
    "enum of data like a schema": {"enum": [{"not": 1, "pattern": "(?!"}]},
    "const": {"const": "a"},
    "definitions": {"$defs": {"x": of({"a": INTEGER})}, "type": "array", "items": {"$ref": "#/$defs/x"}},
    "reference at the top": {"$defs": {"x": INTEGER}, "$ref": "#/$defs/x", "description": "said"},
    "bounds": {"type": "number", "minimum": 0, "maximum": 1},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 3},
    "items": {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 2},
    "tuple": {"type": "array", "prefixItems": [INTEGER, STRING], "items": False},
    "pattern": {"type": "string", "pattern": "^[a-b]+$"},
    "pattern with a dot": {"type": "string", "pattern": "^a.b$"},
    "pattern of alternatives": {"type": "string", "pattern": "^(a|b)$|^x$"},
    "format": {"type": "string", "format": "ipv4"},
    "map": {"type": "object", "additionalProperties": INTEGER},
    "map of named keys": {"type": "object", "propertyNames": {"pattern": "^[ab]$"}},
    "one allOf": {"allOf": [INTEGER]},
    "oneOf of types": {"oneOf": [STRING, INTEGER, {"type": "null"}]},
    "oneOf with a tag": {
        "$defs": {
            "A": of({"k": {"const": "a"}, "x": INTEGER}, required=["k"]),
            "B": of({"k": {"enum": ["b", "c"]}}, required=["k"]),
        },
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        "discriminator": {"propertyName": "k"},
    },
    "oneOf of closed objects": {
        "oneOf": [
            of({"a": INTEGER}, required=["a"], additionalProperties=False),
            of({"b": INTEGER}, required=["b"], additionalProperties=False),
        ]
    },
    "a property named like a keyword": of({"not": STRING, "pattern": STRING, "if": INTEGER}),
    "no type": {"properties": {"a": INTEGER}, "required": ["a"]},
    "of another type": {"type": "integer", "minLength": 3},
}
#: What XGrammar would ignore, with a word of the reason.
IGNORED: dict[str, tuple[Any, str]] = {
    "anyOf of nothing": ({"anyOf": []}, "anyOf with an empty list"),
    "oneOf of nothing": ({"type": "object", "properties": {"a": {"oneOf": []}}}, "oneOf with an empty list"),
    "no type at all": ({"type": []}, "type with an empty list"),
    "look-ahead": ({"type": "string", "pattern": "^(?!a).*$"}, "look-around"),
    "look-ahead within": (of({"a": of({"b": {"type": "string", "pattern": "(?=b)"}})}), "look-around"),
    "look-behind": ({"type": "string", "pattern": "(?<!a)b"}, "look-around"),
    "look-ahead of keys": ({"type": "object", "patternProperties": {"^(?!a)": INTEGER}}, "look-around"),
    "look-ahead of names": ({"type": "object", "propertyNames": {"pattern": "^(?!a)"}}, "look-around"),
    "look-ahead in a definition": (
        {"$defs": {"x": {"type": "string", "pattern": "(?!a)"}}, "$ref": "#/$defs/x"},
        "look-around",
    ),
    "Unicode class": ({"type": "string", "pattern": r"^\p{L}+$"}, r"\p"),
    "Unicode class in a set": ({"type": "string", "pattern": r"^[\p{L}]$"}, r"\p"),
    "word boundary": ({"type": "string", "pattern": r"\bfoo\b"}, r"\b"),
    "back reference": ({"type": "string", "pattern": r"^(a)\1$"}, r"\1"),
    "flag": ({"type": "string", "pattern": "(?i)a"}, "modifier"),
    "anchor within": ({"type": "string", "pattern": "a$b"}, "$ within"),
    "anchor late": ({"type": "string", "pattern": "a^b"}, "^ within"),
    "anchor in a group": ({"type": "string", "pattern": "(a$)b"}, "$ within"),
    "beginning of text": ({"type": "string", "pattern": r"\Aa"}, r"\A"),
    "possessive": ({"type": "string", "pattern": "a++"}, "repetition"),
    "not": ({"type": "integer", "not": {"const": 1}}, "not"),
    "if": (of({"a": INTEGER}, **{"if": {"required": ["a"]}, "then": {"required": ["b"]}}), "if"),
    "dependentRequired": (of({"a": INTEGER}, dependentRequired={"a": ["b"]}), "dependentRequired"),
    "contains without a type": ({"contains": {"const": 1}}, "contains"),
    "uniqueItems without a type": ({"uniqueItems": True, "items": INTEGER}, "uniqueItems"),
    "multipleOf without a type": ({"multipleOf": 7}, "multipleOf"),
    "minimum without a type": ({"minimum": 5}, "without a type"),
    "pattern without a type": ({"pattern": "^a$"}, "without a type"),
    "required without a type": ({"required": ["a"]}, "without a type"),
    "required, but no property": ({"type": "object", "required": ["a"]}, "among the properties"),
    "next to $ref": ({"$defs": {"x": INTEGER}, "$ref": "#/$defs/x", "minimum": 5}, "next to $ref"),
    "next to anyOf": ({"type": "integer", "anyOf": [{"minimum": 5}]}, "next to anyOf"),
    "next to allOf": (of({"a": INTEGER}, allOf=[of({"b": INTEGER}, required=["b"])]), "next to allOf"),
    "next to enum": ({"enum": [1, 10], "minimum": 5}, "next to enum"),
    "enum of another type": ({"type": "string", "enum": ["a", 1]}, "next to enum"),
    "pattern next to format": ({"type": "string", "pattern": "^a", "format": "ipv4"}, "next to format"),
    "overlapping oneOf": ({"oneOf": [INTEGER, {"type": "number", "minimum": 1}]}, "oneOf"),
    "overlapping oneOf of objects": ({"oneOf": [of({"a": INTEGER}), of({"b": INTEGER})]}, "oneOf"),
    "another document": ({"$ref": "http://a.example/b"}, "another document"),
    "an anchor": ({"$defs": {"x": {"$anchor": "q", "type": "integer"}}, "$ref": "#q"}, "anchor"),
}
TEXTS = [
    "",
    "a",
    "b",
    "x",
    "ab",
    "abc",
    "bb",
    "A",
    "p",
    "L",
    "1",
    "a\nb",
    "axb",
    "foo",
    "aa",
    "\u00e9",
    "1.2.3.4",
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 5, 7, 10, -1, 0.5, 1.5, *TEXTS),
    *([], [1], [2], [1, 1], [1, 2], [1, "a"], ["a"], ["a", "b"], [1, 1, 1], [1, "a", 5], [{"a": 1}]),
    *(
        {},
        {"a": 1},
        {"a": "a"},
        {"b": 1},
        {"a": 1, "b": 1},
        {"a": None},
        {"a": {"b": "a"}},
        {"a": {"b": ["a"]}},
    ),
    *({"k": "a"}, {"k": "b"}, {"k": "a", "x": 1}, {"c": 1}, {"a": 1, "b": "x"}, {"not": 1, "pattern": "(?!"}),
]
EVERY = {**HONOURED, **{name: schema for name, (schema, _) in IGNORED.items()}}


def breaking(backend: XGrammar | Guidance, schema: Any) -> list[Any]:
    """What a backend lets through that breaks the schema."""
    validator = Draft202012Validator(schema)
    return [value for value in VALUES if backend.accepts(value) and not validator.is_valid(value)]


@pytest.mark.parametrize("name", HONOURED)
def test_what_is_honoured_passes_and_holds(name: str) -> None:
    xgrammar = XGrammar(HONOURED[name])
    assert xgrammar.refusal is None
    assert breaking(xgrammar, HONOURED[name]) == []


@pytest.mark.parametrize("name", IGNORED)
def test_what_would_be_ignored_is_refused_with_its_name(name: str) -> None:
    schema, reason = IGNORED[name]
    refusal = XGrammar(schema).refusal
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize("name", EVERY)
def test_what_guidance_takes_holds(name: str) -> None:
    """It is asked next, so it must refuse what it does not know."""
    if name == "another document" or "Unicode" in name:
        pytest.skip("jsonschema cannot fetch it, and Python's expressions have no such class")
    guidance = Guidance(EVERY[name])
    if guidance.refusal is None:
        assert breaking(guidance, EVERY[name]) == []


_patterns = st.sampled_from(
    ["^a$", "a", "^(?!a)b", r"\p{L}", "^a|b$", "a$b", "[ab]{1,2}", "a++", ".", r"\d", "(^a)", "(a$)", "x*?"]
)
_keywords = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "object", "array", ["string", "null"]]),
        "minimum": st.integers(0, 5),
        "maximum": st.integers(5, 9),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(2, 3),
        "pattern": _patterns,
        "enum": st.lists(st.sampled_from([1, 7, "a", "ab", None]), min_size=1, max_size=3, unique=True),
        "const": st.sampled_from([1, "a", None]),
        "required": st.sampled_from([["a"], ["b"], ["a", "b"]]),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(2, 3),
        "uniqueItems": st.booleans(),
        "minProperties": st.integers(0, 2),
        "additionalProperties": st.booleans(),
        "not": st.sampled_from([{"const": 1}, {"type": "string"}]),
    },
)
_schemas = st.recursive(
    _keywords,
    lambda inner: st.tuples(
        _keywords,
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from(["a", "b", "not"]), inner, max_size=2),
                "patternProperties": st.dictionaries(_patterns, inner, max_size=1),
                "items": inner,
                "anyOf": st.lists(inner, min_size=1, max_size=2),
                "oneOf": st.lists(inner, min_size=1, max_size=2),
                "allOf": st.lists(inner, min_size=1, max_size=1),
                "propertyNames": inner,
            },
        ),
    ).map(lambda both: {**both[0], **both[1]}),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(schema=_schemas)
def test_a_schema_that_passes_is_kept_by_the_backend(schema: dict[str, Any]) -> None:
    try:
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).is_valid("a")
        breaking_by = [value for value in VALUES if not Draft202012Validator(schema).is_valid(value)]
    except Exception:  # Python's regular expressions have no \p: nobody is there to say what is right
        return
    xgrammar = XGrammar(schema)
    if xgrammar.refusal is None:
        assert [value for value in breaking_by if xgrammar.accepts(value)] == []
