"""Schema: which keywords of a JSON Schema XGrammar 0.2 would ignore where they stand."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dgx_vllm.structured.regex import misread

Schema = Mapping[str, Any]

_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
# What speaks of values of one type alone.
_OF_TYPE = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": _BOUNDS,
    "integer": _BOUNDS,
    "object": {
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties", "unevaluatedProperties"),
    },
    "array": {"items", "prefixItems", "minItems", "maxItems", "unevaluatedItems"},
}
# A schema with one of these is taken for a schema of that type, where it names none.
_IMPLIES = {"properties": "object", "items": "array", "prefixItems": "array"}
_NEVER = (
    *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
    *("contains", "minContains", "maxContains", "$dynamicRef", "$recursiveRef", "multipleOf", "uniqueItems"),
)
# A schema with one of these is that alone: what stands next to it is ignored.
_ALONE = ("$ref", "const", "enum", "anyOf", "oneOf", "allOf")
_KEYWORDS = frozenset().union(_NEVER, _ALONE, *_OF_TYPE.values(), {"type"})
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE = ("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems")


def ignored(schema: Any, compiles: Callable[[str], str | None]) -> str | None:
    """What would be ignored, as a clause for people; None where XGrammar honours all of it.

    Args:
        schema: a JSON Schema, draft 2020-12 or 7.
        compiles: says why XGrammar refuses a regular expression, None where it does not.
    """
    root = schema if isinstance(schema, Mapping) else {}
    for part in _schemas(schema):
        reason = _of_one(part, root) or next(filter(None, map(_reading(compiles), _patterns(part))), None)
        if reason:
            return reason
    return None


def _schemas(schema: Any) -> Iterator[Schema]:
    """A schema and all within it. Data, such as an enum's values, is none."""
    todo = [schema]
    while todo:
        part = todo.pop()
        if not isinstance(part, Mapping):
            continue
        yield part
        todo += [part[name] for name in _SINGLE if name in part]
        if isinstance(part.get("propertyNames"), Mapping):  # names are strings without its saying so
            todo.append({"type": "string", **part["propertyNames"]})
        todo += [one for name in _LISTS if isinstance(part.get(name), list) for one in part[name]]
        todo += [one for name in _NAMED if isinstance(part.get(name), Mapping) for one in part[name].values()]


def _patterns(schema: Schema) -> Iterator[str]:
    if isinstance(schema.get("pattern"), str):
        yield schema["pattern"]
    if isinstance(schema.get("patternProperties"), Mapping):
        yield from schema["patternProperties"]


def _reading(compiles: Callable[[str], str | None]) -> Callable[[str], str | None]:
    def reading(pattern: str) -> str | None:
        reason = misread(pattern, in_json=True) or compiles(pattern)
        return reason and f"pattern {pattern!r}: {reason}"

    return reading


def _of_one(schema: Schema, root: Schema) -> str | None:
    keywords = {name for name in schema if name in _KEYWORDS}
    if schema.get("uniqueItems") is False:
        keywords.discard("uniqueItems")
    for name in _NEVER:
        if name in keywords:
            return name
    for name in ("type", "anyOf", "oneOf"):  # nothing satisfies these; XGrammar lets an empty answer through
        if schema.get(name) == []:
            return f"{name} with an empty list"
    if {"pattern", "format"} <= keywords:
        return "pattern next to format"
    alone = next((name for name in _ALONE if name in keywords), None)
    if alone is None:
        return _without_type(schema, keywords) or _unnamed(schema)
    rest = keywords - {alone}
    if alone in ("const", "enum"):
        values = schema["enum"] if alone == "enum" else [schema["const"]]
        if isinstance(values, list) and all(_is_of(value, schema.get("type")) for value in values):
            rest.discard("type")
    if rest:
        return f"{min(rest)} next to {alone}"
    if alone == "$ref" and not (isinstance(schema["$ref"], str) and schema["$ref"].startswith("#")):
        return f"$ref {schema['$ref']!r} to another document"
    if alone == "$ref" and schema["$ref"] != "#" and not schema["$ref"].startswith("#/"):
        return f"$ref {schema['$ref']!r} by an anchor"
    if alone == "oneOf" and isinstance(schema["oneOf"], list):
        return _overlap(schema["oneOf"], root)
    return None


def _types(schema: Schema) -> set[str] | None:
    """The types that a schema names, None where it names none."""
    named = schema.get("type")
    if isinstance(named, str):
        return {named}
    if isinstance(named, list):
        return {name for name in named if isinstance(name, str)}
    return None


def _without_type(schema: Schema, keywords: set[str]) -> str | None:
    """A keyword of one type in a schema that does not say its type."""
    types = _types(schema)
    if types is None:
        types = {kind for name, kind in _IMPLIES.items() if name in keywords}
        applying = {name for names in _OF_TYPE.values() for name in names} & keywords
        understood = {name for kind in types for name in _OF_TYPE[kind]} if len(types) == 1 else set()
        left = applying - understood
        if left:
            return f"{min(left)} without a type"
    return None


def _unnamed(schema: Schema) -> str | None:
    """A property that is required without being among the properties."""
    required, properties = schema.get("required"), schema.get("properties", {})
    types = _types(schema)
    if (
        isinstance(required, list)
        and isinstance(properties, Mapping)
        and (types is None or "object" in types)
    ):
        missing = [name for name in required if isinstance(name, str) and name not in properties]
        if missing:
            return f"required {missing[0]!r}, which is not among the properties"
    return None


def _is_of(value: Any, named: Any) -> bool:
    kinds = [named] if isinstance(named, str) else named
    if not isinstance(kinds, list):
        return named is None
    return any(_is(value, kind) for kind in kinds)


def _is(value: Any, kind: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    checks = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "number": number,
        "integer": number and float(value).is_integer(),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    return checks.get(kind, False) if isinstance(kind, str) else False


# --- oneOf, which XGrammar reads as anyOf


def _overlap(branches: list[Any], root: Schema) -> str | None:
    """Branches of which an answer might satisfy two."""
    resolved = [_resolved(branch, root) for branch in branches]
    for place, one in enumerate(resolved):
        for other in resolved[place + 1 :]:
            if not _disjoint(one, other, root):
                return "oneOf with branches that are not told apart by a type or a property's value"
    return None


def _resolved(schema: Any, root: Schema) -> Schema:
    """Behind $ref within the document."""
    for _ in range(32):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            break
        target: Any = root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = (
                target.get(step.replace("~1", "/").replace("~0", "~"))
                if isinstance(target, Mapping)
                else None
            )
        schema = target
    return schema if isinstance(schema, Mapping) else {}


def _disjoint(one: Schema, other: Schema, root: Schema) -> bool:
    """Whether no value can satisfy both, as far as types and properties tell."""
    values = _values(one), _values(other)
    if values[0] is not None and values[1] is not None:
        return not values[0] & values[1]
    kinds = _kinds(one), _kinds(other)
    if kinds[0] is None or kinds[1] is None:
        return False
    shared = kinds[0] & kinds[1]
    return not shared or (shared == {"object"} and _objects_disjoint(one, other, root))


def _values(schema: Schema) -> set[str] | None:
    listed = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
    return {json.dumps(value, sort_keys=True) for value in listed} if isinstance(listed, list) else None


def _kinds(schema: Schema) -> set[str] | None:
    types = _types(schema)
    if types is None:
        listed = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
        if not isinstance(listed, list):
            return None
        types = {kind for kind in (*_OF_TYPE, "null", "boolean") for value in listed if _is(value, kind)}
    return types | {"integer"} if "number" in types else types


def _objects_disjoint(one: Schema, other: Schema, root: Schema) -> bool:
    properties = one.get("properties") or {}, other.get("properties") or {}
    required = set(one.get("required") or ()), set(other.get("required") or ())
    for name in required[0] & required[1]:
        if name in properties[0] and name in properties[1]:
            pair = _resolved(properties[0][name], root), _resolved(properties[1][name], root)
            if _disjoint(*pair, root):
                return True
    return any(
        rival.get("additionalProperties") is False
        and not rival.get("patternProperties")
        and needed - set(known)
        for needed, rival, known in ((required[0], other, properties[1]), (required[1], one, properties[0]))
    )
