"""vLLM's own `serve` flags: reading them from words, checking their values, writing them back."""

import argparse
import difflib
import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec

from dgx_vllm.errors import UserError

Value = bool | str | tuple[str, ...] | dict[str, Any]
"""A switch, one value, several, or the fields of a JSON flag given one by one (`--flag.field value`)."""

Values = dict[str, Value]
"""Values by flag name: the flag's first long name without its dashes, such as `max-model-len`."""

# vLLM's parser rewrites these before it reads its flags; it has no flag -O.
_LEVEL = re.compile(r"-O=?([0-3])")
_LEVEL_FLAG = "--optimization-level"
_SIZE = re.compile(r"\d+[KMGT]?|\d+(\.\d+)?[kmgt]")
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One flag of `vllm serve`, as vLLM's parser declares it."""

    names: tuple[str, ...]
    arity: Literal["none", "one", "optional", "many", "repeat"]
    kind: Literal["text", "int", "float", "size", "size-or-auto", "json", "json-object", "json-or-text"] = (
        "text"
    )
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0].removeprefix("--")

    @property
    def negation(self) -> str | None:
        """The `--no-…` spelling, where vLLM has one."""
        return next((name for name in self.names[1:] if name.startswith("--no-")), None)

    def check(self, value: Value, origin: str) -> None:
        """Refuses a value that vLLM's parser would refuse.

        Args:
            value: what was given.
            origin: where, for the message: `--port`, `PORT` or a profile's key.
        """
        if self.arity == "none":
            if not isinstance(value, bool):
                raise UserError(f"{origin} is a switch and takes no value (got {value!r})")
            return
        if isinstance(value, bool):
            if value and self.arity == "optional":
                return
            raise UserError(f"{origin} needs a value")
        if isinstance(value, dict):
            if not self.kind.startswith("json"):
                raise UserError(f"{origin} has no fields; give it one value")
            return
        if isinstance(value, tuple) and self.arity in ("one", "optional"):
            raise UserError(f"{origin} takes one value, not {len(value)}")
        for word in (value,) if isinstance(value, str) else value:
            self._check_word(word, origin)

    def _check_word(self, word: str, origin: str) -> None:
        # vLLM's own converter for the backend flags lowers case and takes dashes for underscores.
        if self.choices and word not in self.choices and word.lower().replace("-", "_") not in self.choices:
            hint = nearest(word, self.choices) or f"choose from {', '.join(self.choices)}"
            raise UserError(f"{origin}: {word!r} is not one of its values; {hint}")
        wanted = {
            "int": ("a whole number", lambda: int(word)),
            "float": ("a number", lambda: float(word)),
            "size": ("a whole number such as 4096, 4k or 4K", lambda: size(word)),
            "size-or-auto": ("a whole number such as 4096, 4k or 4K, or auto", lambda: size(word, auto=True)),
            "json": ("valid JSON", lambda: json.loads(word)),
            "json-object": ('a JSON object such as {"name": 1}', lambda: _object(word)),
            "json-or-text": ("valid JSON", lambda: json.loads(word) if word[:1] == "{" else None),
            "text": ("", lambda: None),
        }
        what, convert = wanted[self.kind]
        try:
            convert()
        except ValueError as error:
            raise UserError(f"{origin} must be {what}, not {word!r}") from error

    def words(self, value: Value) -> list[str]:
        """The command-line words that give the flag this value."""
        if isinstance(value, bool):
            return [self.names[0]] if value else [name for name in (self.negation,) if name]
        if isinstance(value, dict):
            value = json.dumps(value)
        if isinstance(value, str):
            return self._pair(value)
        if self.arity == "repeat":
            return [word for item in value for word in self._pair(item)]
        # After `--flag=value` no second value is read: it is for the one alone.
        return self._pair(value[0]) if len(value) == 1 else [self.names[0], *value]

    def _pair(self, value: str) -> list[str]:
        # A value that starts with a dash would be read as a flag.
        return [f"{self.names[0]}={value}"] if value.startswith("-") else [self.names[0], value]


def _object(word: str) -> None:
    if not isinstance(json.loads(word), dict):
        raise ValueError(word)


class FlagTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every flag of one vLLM version, and the variables that it reads outside vllm/envs.py."""

    version: str
    environment: tuple[str, ...]
    flags: tuple[Flag, ...]

    def get(self, name: str) -> Flag | None:
        """The flag of that name, spelt with or without dashes in front, with `-` or `_` inside."""
        return _by_name(self).get(name.lstrip("-").replace("_", "-"))

    def require(self, name: str, origin: str) -> Flag:
        """The flag of that name.

        Raises:
            UserError: vLLM has no such flag; names the nearest.
        """
        flag = self.get(name)
        if flag is None:
            names = [flag.name for flag in self.flags]
            hint = nearest(name.lstrip("-"), names, "--") or "see `dgx-vllm exec vllm serve --help=all`"
            raise UserError(f"{origin}: vLLM {self.version} has no flag --{name.lstrip('-')}; {hint}")
        return flag

    def parse(self, words: Sequence[str], origin: str = "") -> tuple[list[str], Values]:
        """Reads words as `vllm serve` would.

        Args:
            words: such as `["org/model", "--port", "80", "-sc.method=mtp"]`.
            origin: what to call the words in an error, empty for the command line.

        Returns:
            The words that belong to no flag, and the flags' values.

        Raises:
            UserError: an unknown flag, a missing value, or one of the wrong kind.
        """
        plain, fields = self._split_fields(_with_level(words), origin)
        parser = _parser(self, f"{origin}: " if origin else "")
        found = argparse.Namespace(values={})
        _, rest = parser.parse_known_args(plain, found)
        for word in rest:
            if word.startswith("-") and word != "-":
                self.require(word.split("=")[0], origin or word.split("=")[0])
        values: Values = found.values
        for name, given in fields.items():
            # vLLM appends the collected fields last, so they replace a whole value given beside them.
            values[name] = given
        for name, value in values.items():
            flag = self.require(name, origin)
            flag.check(value, f"{origin} {flag.names[0]}".strip())
        return rest, values

    def _split_fields(self, words: list[str], origin: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Takes `--flag.field value` and `--flag.field=value` out of the words."""
        plain: list[str] = []
        fields: dict[str, dict[str, Any]] = {}
        while words:
            word = words.pop(0)
            head, equals, text = word.partition("=")
            base, dot, path = head.partition(".")
            if not (word.startswith("-") and dot) or _is_number(word):
                plain.append(word)
                continue
            flag = self.require(base, origin or head)
            if not equals:
                if not words:
                    raise UserError(f"{origin or head} needs a value")
                text = words.pop(0)
            value: Any = json.dumps(text.split(",")) if path.endswith("+") else text
            overlay(
                fields.setdefault(flag.name, {}),
                _nest(path.removesuffix("+").split("."), _field_value(value)),
            )
        return plain, fields


def size(word: str, auto: bool = False) -> int:
    """An integer as vLLM reads one: `4096`, `4k` (4000), `4K` (4096); -1 for `auto` where that is allowed.

    Raises:
        ValueError: it is none of these.
    """
    if auto and (word == "-1" or word.lower() == "auto"):
        return -1
    if not _SIZE.fullmatch(word):
        raise ValueError(word)
    if word[-1] in _DECIMAL:
        return int(float(word[:-1]) * _DECIMAL[word[-1]])
    return int(word[:-1]) * _BINARY[word[-1]] if word[-1] in _BINARY else int(word)


def _with_level(words: Sequence[str]) -> list[str]:
    """`-O3`, `-O=3` and `-O 3` as the flag that they stand for."""
    found: list[str] = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        level = _LEVEL.fullmatch(word)
        if level:
            found += [_LEVEL_FLAG, level[1]]
        else:
            found.append(_LEVEL_FLAG if word == "-O" and _LEVEL.fullmatch(word + following) else word)
    return found


def overlay(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lays the fields of one JSON object over another's, in place, object by object."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            overlay(below[key], value)
        else:
            below[key] = value
    return below


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`did you mean …?` for the closest known words, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(prefix + name for name in close)}?" if close else ""


@functools.cache
def load() -> FlagTable:
    """The table of the vLLM version that this package is made for."""
    return msgspec.json.decode((Path(__file__).parent / "flags.json").read_bytes(), type=FlagTable)


class _Record(argparse.Action):
    """Keeps a flag's words as they are; vLLM converts them."""

    def __init__(self, flag: Flag, **options: Any) -> None:
        self.flag = flag
        super().__init__(**options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        found: Values = namespace.values
        name = self.flag.name
        if self.flag.arity == "none":
            found[name] = option != self.flag.negation
        elif self.flag.arity == "repeat":
            earlier = found.get(name, ())
            found[name] = (*(earlier if isinstance(earlier, tuple) else ()), values)
        elif isinstance(values, list):
            found[name] = tuple(values)
        else:
            # An optional value that was left out.
            found[name] = True if values is None else values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}{message}")


@functools.cache
def _parser(table: FlagTable, prog: str) -> argparse.ArgumentParser:
    nargs: dict[str, Any] = {"none": 0, "one": None, "optional": "?", "many": "+", "repeat": None}
    parser = _Parser(prog=prog, add_help=False)
    for flag in table.flags:
        parser.add_argument(
            *_spellings(flag), action=_Record, flag=flag, nargs=nargs[flag.arity], default=argparse.SUPPRESS
        )
    return parser


def _spellings(flag: Flag) -> list[str]:
    underscored = [f"--{name[2:].replace('-', '_')}" for name in flag.names if name.startswith("--")]
    return list(dict.fromkeys([*flag.names, *underscored]))


@functools.cache
def _by_name(table: FlagTable) -> dict[str, Flag]:
    return {name.lstrip("-"): flag for flag in table.flags for name in flag.names}


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def _field_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return size(text) if _SIZE.fullmatch(text) else text


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-\d*\.\d+", word))
