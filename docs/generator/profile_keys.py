"""The page of a profile's keys, from the structure that reads them."""

import re
from typing import Any, Literal, get_args, get_origin

import msgspec
from markdown import NOTE, table

from dgx_vllm.profiles.profile import Profile, builtin
from dgx_vllm.util.amounts import gb

_NAMES: dict[Any, str] = {str: "text", float: "number", bool: "true or false"}
_INTERNAL = ("name", "directory")


def page() -> str:
    """Every key with its type and default, and the profiles that there are."""
    meanings = dict(re.findall(r"^ {8}(\w+): (.+?)(?=^ {8}\w+: |\Z)", Profile.__doc__ or "", re.S | re.M))
    rows = []
    for field in msgspec.structs.fields(Profile):
        if field.name in _INTERNAL:
            continue
        default = "required" if field.required else _default(field)
        rows.append((f"`{field.encode_name}`", _kind(field), default, meanings.get(field.name, "")))
    lines = ["# Profile keys", "", NOTE, ""]
    lines += ["[Write your own profile](../guides/own-profile.md) shows how to use them.", ""]
    lines += [*table(("key", "type", "default", "meaning"), rows), "## Built-in profiles", ""]
    lines += table(
        ("name", "model", "weights", "summary"),
        (
            (f"`{p.name}`", p.model, gb(p.weight_bytes) if p.weight_bytes else "", p.summary)
            for p in builtin()
        ),
    )
    return "\n".join(lines).rstrip() + "\n"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory
    if callable(value) or isinstance(value, msgspec.Struct) or value in (None, "", {}):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(field: msgspec.structs.FieldInfo) -> str:
    kind = field.type
    if get_origin(kind) is dict:
        return "table"
    while choices := [argument for argument in get_args(kind) if argument is not type(None)]:
        if get_origin(kind) is Literal:
            return "one of " + ", ".join(f"`{choice}`" for choice in choices)
        kind = choices[0]
    kind = getattr(kind, "__value__", kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in get_args(kind))
    return _NAMES.get(kind, "table")
