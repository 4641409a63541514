"""vLLM's own `serve` flags: reading them from words, checking their values, writing them back."""

import argparse
import contextlib
import difflib
import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec

from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import former

Value = bool | str | tuple[str, ...] | dict[str, Any]
"""A switch, one value, several, or the fields of a JSON flag given one by one (`--flag.field value`)."""

#: Fields of earlier versions that are found in published commands, and their names of today.
_RENAMED = {
    "compilation-config.level": "mode",
    "compilation-config.full_cuda_graph": "cudagraph_mode",
    "compilation-config.use_cudagraph": "cudagraph_mode",
    "compilation-config.use_inductor": "backend",
    "compilation-config.pass_config.enable_fusion": "fuse_norm_quant and fuse_act_quant",
    "compilation-config.pass_config.enable_attn_fusion": "fuse_attn_quant",
    "compilation-config.pass_config.enable_noop": "eliminate_noops",
    "compilation-config.pass_config.enable_fi_allreduce_fusion": "fuse_allreduce_rms",
}

#: What llama.cpp's server and others call it, where no flag of vLLM has a name alike.
_ELSEWHERE = {
    **dict.fromkeys(
        ("ctx-size", "n-ctx", "num-ctx", "context-length", "max-context-length"),
        "that is --max-model-len in vLLM",
    ),
    **dict.fromkeys(("np", "n-parallel", "parallel", "max-concurrency"), "that is --max-num-seqs in vLLM"),
    "alias": "that is --served-model-name in vLLM",
    "p": "did you mean --port?",
    "jinja": "vLLM uses the model's chat template without it; leave it out",
    **dict.fromkeys(("fa", "flash-attn"), "vLLM chooses by itself; --attention-backend NAME insists on one"),
    **dict.fromkeys(("embedding", "embeddings"), "that is --runner pooling in vLLM"),
    "m": "give the model without a flag: dgx-vllm serve MODEL",
    **dict.fromkeys(
        ("temp", "temperature", "top-p", "top-k", "min-p", "repeat-penalty"),
        "each request may say so; a default for all: --override-generation-config.NAME VALUE",
    ),
    **dict.fromkeys(
        ("ngl", "n-gpu-layers", "gpu-layers", "num-gpu"), "vLLM puts the whole model on the GPU; leave it out"
    ),
}

# To vLLM's parser these are -n with the value gl or p, or the beginning of several flags.
_MISTAKEN = ("-ngl", "-np", "-p")

Values = dict[str, Value]
"""Values by flag name: the flag's first long name without its dashes, such as `max-model-len`."""

# vLLM's parser rewrites this before it reads its flags; it has no flag -O.
_LEVEL = "-O"
_LEVEL_FLAG = "--optimization-level"
_HELP = "--help"
_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*")')
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a field takes that takes one of a few values.

    Args:
        field: where in the JSON object, by dots.
        words: the texts.
        numbers: the whole numbers.
        folds: whether capitals stand for the small letters of `words`.
        dashes: whether dashes stand for their underscores.
    """

    field: str
    words: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    folds: bool = False
    dashes: bool = False

    def takes(self, value: Any) -> bool:
        """Whether vLLM takes a value; of others than texts and whole numbers nothing is said here."""
        if type(value) is int:
            return value in self.numbers
        if not isinstance(value, str):
            return True
        word = value.lower() if self.folds else value
        return word in self.words or (self.dashes and word.replace("-", "_") in self.words)


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One flag of `vllm serve`, as vLLM's parser declares it."""

    names: tuple[str, ...]
    arity: Literal["none", "one", "optional", "many", "repeat"]
    kind: Literal[
        "text", "int", "float", "size", "size-or-auto", "json", "json-object", "json-or-text", "lora-module"
    ] = "text"
    choices: tuple[str, ...] = ()
    # What the JSON objects of the flag may hold, fields within fields by dots; nothing where all is free.
    fields: tuple[str, ...] = ()
    # Those of the fields that take one of a few values.
    values: tuple[Closed, ...] = ()
    # Whether capitals and dashes stand for small letters and underscores in a choice.
    folds: bool = False
    # Whether `None` and the empty word stand for no value, and whether that differs from the default.
    nullable: bool = False
    null_is_a_value: bool = False

    @property
    def name(self) -> str:
        return self.names[0].removeprefix("--")

    @property
    def negation(self) -> str | None:
        """The `--no-…` spelling, where vLLM has one."""
        return next((name for name in self.names[1:] if name.startswith("--no-")), None)

    @property
    def takes_fields(self) -> bool:
        """Whether a JSON object can be its value."""
        return self.kind.startswith(("json", "lora"))

    def unset(self, value: Value) -> bool:
        """Whether the value is a word that stands for none."""
        return self.nullable and value in ("", "None")

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
            self._check_fields(value, origin)
            return
        if isinstance(value, tuple) and self.arity in ("one", "optional"):
            raise UserError(f"{origin} takes one value, not {len(value)}")
        if self.unset(value):
            return
        for word in (value,) if isinstance(value, str) else value:
            self._check_word(word, origin)

    def _check_word(self, word: str, origin: str) -> None:
        folded = word.lower().replace("-", "_") if self.folds else word
        if self.choices and word not in self.choices and folded not in self.choices:
            hint = nearest(word, self.choices) or f"choose from {', '.join(self.choices)}"
            raise UserError(f"{origin}: {word!r} is not one of its values; {hint}")
        wanted = {
            "int": ("a whole number", lambda: int(word)),
            "float": ("a number", lambda: float(word)),
            "size": ("a whole number such as 4096, 4k or 4K", lambda: size(word)),
            "size-or-auto": ("a whole number such as 4096, 4k or 4K, or auto", lambda: size(word, auto=True)),
            "json": ("valid JSON", lambda: json.loads(word)),
            "json-object": ('a JSON object such as {"name": 1}', lambda: _object(word)),
            "json-or-text": ("valid JSON", lambda: json.loads(word) if is_object(word) else None),
            "lora-module": ('name=path or {"name": "...", "path": "..."}', lambda: _lora_module(word)),
            "text": ("", lambda: None),
        }
        what, convert = wanted[self.kind]
        try:
            convert()
        except ValueError as error:
            raise UserError(f"{origin} must be {what}, not {word!r}") from error
        if self.fields and is_object(word):
            self._check_fields(json.loads(expanded(word)), origin)

    def _check_fields(self, fields: Mapping[str, Any], origin: str, above: str = "") -> None:
        """Refuses fields that vLLM's own class for the flag's value lacks."""
        for key, value in fields.items() if self.fields else ():
            # Of the drafts' config alone vLLM takes dashes for underscores.
            path = above + (key.replace("-", "_") if self.name == "speculative-config" else key)
            if path not in self.fields:
                raise UserError(f"{origin}: vLLM {load().version} has no field {path}; {self._instead(path)}")
            closed = next((each for each in self.values if each.field == path), None)
            if closed and not closed.takes(value):
                words = [*closed.words, *map(str, closed.numbers)]
                hint = nearest(str(value).lower(), closed.words) or f"choose from {', '.join(words)}"
                raise UserError(f"{origin}: {path} cannot be {json.dumps(value)}; {hint}")
            if isinstance(value, dict) and any(known.startswith(f"{path}.") for known in self.fields):
                self._check_fields(value, origin, f"{path}.")

    def _instead(self, path: str) -> str:
        """What to give for a field that there is not."""
        renamed = _RENAMED.get(f"{self.name}.{path}")
        if renamed:
            return f"give {renamed} instead"
        above, _, name = path.rpartition(".")
        level = [known for known in self.fields if known.rpartition(".")[0] == above]
        moved = [known for known in self.fields if known.rpartition(".")[2] == name]
        spelt = path.replace("-", "_")
        hint = "" if spelt not in level else f"did you mean {spelt}?"
        return hint or nearest(path, [*moved, *level]) or f"known: {', '.join(sorted(level))}"

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
    if not isinstance(json.loads(expanded(word)), dict):
        raise ValueError(word)


def _lora_module(word: str) -> None:
    if not word or word == "None":
        return
    if "=" in word and "," not in word:
        name, _, path = word.partition("=")
        module = {"name": name, "path": path}
    else:
        module = json.loads(word)
    # vLLM's parser takes empty ones, and its server ends at them.
    if not isinstance(module, dict) or not module.get("name") or not module.get("path"):
        raise ValueError(word)


def is_object(word: str) -> bool:
    """Whether vLLM takes a text for a JSON object where it could be either."""
    return word.strip()[:1] == "{" and word.strip()[-1:] == "}"


def expanded(word: str) -> str:
    """JSON with numbers for bare sizes such as 80m, as vLLM takes it for the configs that are its classes."""
    parts = _STRINGS.split(word)
    parts[::2] = [
        re.sub(rf"\b{_SUFFIXED.pattern}\b", lambda found: str(size(found[0])), part) for part in parts[::2]
    ]
    return "".join(parts)


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
            hint = nearest(name.lstrip("-"), names, "--") or "see `dgx-vllm serve --help=all`"
            raise UserError(f"{origin}: vLLM {self.version} has no flag --{name.lstrip('-')}; {hint}")
        return flag

    def resolve(self, word: str) -> tuple[Flag, str] | None:
        """The flag that vLLM's parser takes a word for, and the name that was meant.

        Args:
            word: such as `--max_model_len`, `-tp`, or the unmistakable beginning of a name.
        """
        spelt = _dashed(word)
        named = {name: flag for flag in self.flags for name in flag.names}
        if spelt in named:
            return named[spelt], spelt
        names = [name for name in (*named, _HELP) if spelt.startswith("--") and name.startswith(spelt)]
        return (named[names[0]], names[0]) if len(names) == 1 and names[0] in named else None

    def unknown(self, word: str, origin: str) -> UserError:
        """The error for a word that begins like a flag and is none of vLLM's."""
        name = word.lstrip("-").replace("_", "-")
        flag = self.get(name)
        names = [flag.name for flag in self.flags]
        advice = former.advice(name) or _ELSEWHERE.get(name)
        hint = advice or (f"did you mean --{flag.name}?" if flag else nearest(name, names, "--"))
        hint = hint or "see `dgx-vllm serve --help=all`"
        shown = word if word.startswith("-") else f"--{word}"
        return UserError(f"{origin}: vLLM {self.version} has no flag {shown}; {hint}")

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
        for word in words:
            if word in _MISTAKEN:
                raise self.unknown(word, origin or word)
        plain, fields = _split_fields(_spelt(words), origin)
        parser = _parser(self, f"{origin}: " if origin else "")
        parsed = argparse.Namespace(values={})
        _, rest = parser.parse_known_args(plain, parsed)
        for word in rest:
            if word.startswith("-") and word != "-":
                name = word.split("=")[0]
                raise self.unknown(name, origin or name)
        values: Values = parsed.values
        # vLLM appends the collected fields last, so they replace a whole value that is given, too.
        together: dict[str, dict[str, Any]] = {}
        for base, given in fields.items():
            meant = self.resolve(base)
            if meant is None:
                raise self.unknown(base, origin or base)
            _merge(together.setdefault(meant[0].name, {}), given)
        values.update(together)
        for name, value in values.items():
            flag = self.require(name, origin)
            flag.check(value, f"{origin} {flag.names[0]}".strip())
        return rest, values


def size(word: str, auto: bool = False) -> int:
    """An integer as vLLM reads one: `4096`, `4k` (4000), `4K` (4096); -1 for `auto` where that is allowed.

    Raises:
        ValueError: it is none of these.
    """
    if auto and (word == "-1" or word.lower() == "auto"):
        return -1
    match = _SUFFIXED.fullmatch(word.strip())
    if match is None:
        return int(word)
    number, suffix = match.groups()
    if suffix in _DECIMAL:
        return int(float(number) * _DECIMAL[suffix])
    return int(number) * _BINARY[suffix]


def _dashed(word: str) -> str:
    """A word with dashes for underscores in its flag's name, as vLLM reads it."""
    if not word.startswith("--"):
        return word
    head, equals, value = word.partition("=")
    name, dot, path = head.partition(".")
    return f"{name.replace('_', '-')}{dot}{path}{equals}{value}"


def _spelt(words: Sequence[str]) -> list[str]:
    """The words with names in vLLM's spelling; `-O3`, `-O=3` and `-O 3` become the flag that they mean."""
    spelt: list[str] = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if word == _LEVEL:
            spelt.append(_LEVEL_FLAG if following in ("0", "1", "2", "3") else word)
        elif word.startswith(_LEVEL):
            spelt += [_LEVEL_FLAG, word.removeprefix(_LEVEL).removeprefix("=")]
        else:
            spelt.append(_dashed(word))
    return spelt


def _split_fields(words: list[str], origin: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Takes `--flag.field value` and `--flag.field=value` out of the words."""
    plain: list[str] = []
    fields: dict[str, dict[str, Any]] = {}
    while words:
        word = words.pop(0)
        head, equals, text = word.partition("=")
        base, dot, path = head.partition(".")
        if not (word.startswith("-") and dot) or is_number(word):
            plain.append(word)
            continue
        if not equals:
            if not words:
                raise UserError(f"{origin or head} needs a value")
            text = words.pop(0)
        value: Any = json.dumps(text.split(",")) if path.endswith("+") else text
        nested = _nest(path.removesuffix("+").split("."), _field_value(value))
        _merge(fields.setdefault(base, {}), nested)
    return plain, fields


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Adds fields that were given one by one; lists grow, as `--flag.field+ value` has it."""
    for key, value in above.items():
        old = below.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            below[key] = old + value
        else:
            below[key] = value


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


class _Refuse(argparse.Action):
    """What vLLM's parser knows and no setting is; the beginning of its name may stand for nothing else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser.error(f"{self.option_strings[0]} is not a setting")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}{message}")


@functools.cache
def _parser(table: FlagTable, prog: str) -> argparse.ArgumentParser:
    nargs: dict[str, Any] = {"none": 0, "one": None, "optional": "?", "many": "+", "repeat": None}
    parser = _Parser(prog=prog, add_help=False)
    parser.add_argument(_HELP, action=_Refuse, nargs=0)
    for flag in table.flags:
        parser.add_argument(
            *flag.names, action=_Record, flag=flag, nargs=nargs[flag.arity], default=argparse.SUPPRESS
        )
    return parser


@functools.cache
def _by_name(table: FlagTable) -> dict[str, Flag]:
    return {name.lstrip("-"): flag for flag in table.flags for name in flag.names}


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def _field_value(text: str) -> Any:
    for convert in (json.loads, size):
        with contextlib.suppress(ValueError):
            return convert(text)
    return text


def is_number(word: str) -> bool:
    """Whether a word is a negative number with a decimal point; vLLM itself takes it for a field's name."""
    return bool(re.fullmatch(r"-\d*\.\d+", word))
