"""vLLM's `--config FILE.yaml`: which settings vLLM takes from it, so that they can be ranked and checked.

vLLM turns each key into words of its command line (`load_config_file` in vllm/utils/argparse_utils.py) and
reads those words. The same is done here. What vLLM would ignore is refused.
"""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Value, Values


def read(path: str) -> Values:
    """The file's settings by flag name; fields given by `flag.field` as a dict, all else as vLLM's words.

    Raises:
        UserError: the file cannot be read, is not a YAML mapping, names a flag that vLLM lacks, or says
            something that vLLM would ignore.
    """
    if Path(path).suffix not in (".yaml", ".yml"):
        raise UserError(f"--config {path}: vLLM reads .yaml or .yml files only")
    values: Values = {}
    keys: dict[str, str] = {}
    for key, field in _mapping(path).items():
        origin = f"--config {path}, {key}"
        name, value = _setting(key, field, origin)
        earlier = values.get(name)
        if earlier is None:
            values[name] = value
        elif isinstance(earlier, dict) and isinstance(value, dict) and _base(keys[name]) == _base(key):
            _add(earlier, value, origin)
        else:
            raise UserError(f"{origin}: {keys[name]} sets --{name} too, and one of them is ignored; keep one")
        keys[name] = key
    return values


def _base(key: str) -> str:
    return key.partition(".")[0].replace("_", "-")


def _add(fields: dict[str, Any], more: Mapping[str, Any], origin: str) -> None:
    """Adds fields of the same JSON flag, which vLLM puts together."""
    for name, value in more.items():
        earlier = fields.setdefault(name, value)
        if isinstance(earlier, dict) and isinstance(value, dict):
            if earlier is not value:
                _add(earlier, value, origin)
        elif earlier is not value:
            raise UserError(f"{origin}: {name} stands twice, and vLLM takes the last; keep one")


def _mapping(path: str) -> dict[Any, Any]:
    """The file's top level.

    Raises:
        UserError: it is none, or a key stands twice in it: YAML's own reader would take the last.
    """
    import yaml  # vLLM's own parser for it; imported only where a file is given

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            seen = set[str]()
            for name in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if name in seen and name != "<<":
                    raise UserError(f"--config {path} sets {name!r} twice; keep one")
                seen.add(name)
            return super().construct_mapping(node, deep)

    try:
        fields = yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} is not valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"--config {path} must hold `flag: value` lines")
    return fields


def _setting(key: Any, field: Any, origin: str) -> tuple[str, Value]:
    """The flag that one line sets, and its value."""
    if not isinstance(key, str):
        raise UserError(f"{origin}: YAML reads this name as {type(key).__name__}; put it in quotes")
    words = _words(key, field, origin)
    if None in (field if isinstance(field, list) else [field]):
        _check_null(words[0], field, origin)
    for word in words[1:]:
        if flags.is_number(word):
            raise UserError(
                f"{origin}: vLLM takes {word} for a flag; give {words[0]}={word} on the command line"
            )
    resolved = flags.load().resolve(words[0])
    if isinstance(field, dict) and resolved and not resolved[0].takes_fields:
        raise UserError(
            f"{origin}: vLLM reads this as {resolved[1]} with a text of {words[1]}; "
            "write flags at the top of the file"
        )
    rest, flag_values = flags.load().parse(words, origin)
    if len(flag_values) != 1:
        raise UserError(f"{origin}: a value that begins with a dash is read as a flag; give one flag a line")
    ((name, value),) = flag_values.items()
    if rest:
        raise UserError(f"{origin}: {rest[0]!r} is one value too many; {_takes(name)}")
    if name == "config":
        raise UserError(f"{origin}: a config file cannot name another")
    return name, value


def _check_null(word: str, field: Any, origin: str) -> None:
    """Refuses an empty value where the word None, which vLLM reads for it, does not stand for none."""
    resolved = flags.load().resolve(word)
    if field is not None or (resolved and not resolved[0].nullable):
        raise UserError(f"{origin}: vLLM reads an empty value as the text None; give one, or leave it out")


def _words(key: str, field: Any, origin: str) -> list[str]:
    """The words of the command line that vLLM makes of one line."""
    name = f"--{key}"
    if field is False:
        return [_negation(key, origin)]
    if field is True:
        if "." in key:
            base, _, path = key.partition(".")
            raise UserError(
                f"{origin}: vLLM takes the next line for its value; give `{base}: {{{path}: true}}` instead"
            )
        return [name]
    if isinstance(field, list):
        if not field:
            raise UserError(f"{origin}: vLLM ignores an empty list; leave it out")
        for item in field:
            if isinstance(item, dict | list):
                quoted = json.dumps(item, default=str)
                raise UserError(f"{origin}: vLLM does not read {item} as JSON; give '{quoted}' in quotes")
        return [name, *(str(item) for item in field)]
    try:
        return [name, json.dumps(field) if isinstance(field, dict) else str(field)]
    except TypeError as error:  # a date, for instance
        raise UserError(f"{origin}: {error}; put such a value in quotes") from error
    except ValueError as error:
        raise UserError(f"{origin}: the value contains itself, by an alias; write it out") from error


def _negation(key: str, origin: str) -> str:
    """The word for `key: false`.

    Raises:
        UserError: vLLM ignores it: it knows no such word by exactly this name.
    """
    table = flags.load()
    base, dot, path = key.partition(".")
    resolved = table.resolve(f"--{base}")
    if resolved is None:
        raise table.unknown(f"--{base}", origin)
    flag, spelling = resolved
    if dot:
        raise UserError(f"{origin}: vLLM ignores false here; give `{base}: {{{path}: false}}` instead")
    if flag.negation == f"--no-{key}":
        return flag.negation
    if flag.negation is None:
        raise UserError(
            f"{origin}: YAML reads this value as false, which vLLM ignores here; leave it out, "
            "or put a text in quotes"
        )
    right = flag.name if spelling == flag.negation else flag.negation.removeprefix("--")
    raise UserError(f"{origin}: vLLM ignores `{key}: false`; give `{right}: true` instead")


def _takes(name: str) -> str:
    arity = flags.load().require(name, name).arity
    if arity == "none":
        return f"--{name} is a switch, and takes true, without quotes"
    return f"--{name} takes one value" + (", more by the command line" if arity == "repeat" else "")
