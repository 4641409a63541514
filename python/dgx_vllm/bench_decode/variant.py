"""Variant: one way of serving a model, as options of `serve`."""

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

import msgspec

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.host.machine import Platform
from dgx_vllm.util.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variant that need not be spelt out.

    Args:
        options: of `serve`.
        default: the platforms on which it is measured unasked.
    """

    options: str
    default: tuple[Platform, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A variant.

    Args:
        name: what it is called in the results.
        words: vLLM's flags.
        dense_dtype: the launcher's own option of that name.
    """

    name: str
    words: tuple[str, ...] = ()
    dense_dtype: Dtype | None = None

    @property
    def options(self) -> str:
        """As one would type it."""
        own = [] if self.dense_dtype is None else ["--dense-dtype", self.dense_dtype]
        return shlex.join([*self.words, *own])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")


def known() -> dict[str, Known]:
    """The variants of variants.toml by name."""
    path = Path(__file__).with_name("variants.toml")
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, Known])


def parse(text: str) -> Variant:
    """The variant that `NAME` or `NAME=OPTIONS` stands for.

    Raises:
        UserError: an unknown name without options, or words that are not options.
    """
    name, equals, options = text.partition("=")
    if not _NAME.fullmatch(name):
        raise UserError(f"--variant {text!r}: give NAME or NAME=OPTIONS, such as dgx='--moe-backend dgx'")
    table = known()
    if not equals:
        if name not in table:
            raise UserError(
                f"there is no variant {name!r}; choose from {', '.join(table)}, or give its options: "
                f"--variant {name}='--moe-backend ...'"
            )
        options = table[name].options
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UserError(
            f"--variant {name}: these are not valid shell words ({error}); check the quotes"
        ) from error
    own = _Parser(prog=f"--variant {name}", add_help=False, allow_abbrev=False)
    own.add_argument("--dense-dtype", choices=get_args(Dtype))
    own_options, rest = own.parse_known_args(words)
    return Variant(name, tuple(rest), own_options.dense_dtype)


def chosen(texts: Sequence[str], platform: Platform) -> list[Variant]:
    """What was asked for, or the platform's own; the first is what the others are held against.

    Raises:
        UserError: see `parse`, or two of one name.
    """
    defaults = [name for name, variant in known().items() if platform in variant.default]
    variants = [parse(text) for text in texts or defaults]
    names = [variant.name for variant in variants]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"--variant {twice} is given twice; give each variant its own name")
    return variants
