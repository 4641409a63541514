"""The table of the launcher's own options, options.toml, which Nix reads as well."""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Type = Literal["flag", "text", "profile", "file", "directory", "secret-file", "amount", "seconds", "choice"]
Place = Literal["install-service", "nixos", "profile"]

FILE = Path(__file__).parent / "options.toml"
_METAVARS: Mapping[str, str] = {
    "text": "TEXT",
    "profile": "NAME|FILE.toml",
    "file": "FILE",
    "directory": "DIRECTORY",
    "secret-file": "FILE",
    "amount": "AMOUNT",
    "seconds": "SECONDS",
}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option; options.toml explains the fields."""

    name: str
    type: Type
    help: str
    field: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    default_text: str | None = None
    zero: str | None = None
    also: tuple[Place, ...] = ()
    nixos: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def flag(self) -> str:
        """As it is written on a command line."""
        return f"--{self.name}"

    @property
    def described(self) -> str:
        """The help with the default."""
        default = self.default_text or ("" if self.default is None else str(self.default))
        if self.zero and default == "0":
            return f"{self.help[:-1]} (default: 0, {self.zero})."
        notes = [f"default: {default}"] if default else []
        notes += [f"0: {self.zero}"] if self.zero else []
        return f"{self.help[:-1]} ({'; '.join(notes)})." if notes else self.help


@functools.cache
def load() -> tuple[Option, ...]:
    """The options in the order of the table."""
    return tuple(_option(entry) for entry in tomllib.loads(FILE.read_text(encoding="utf-8"))["option"])


def of(place: Place) -> tuple[Option, ...]:
    """The options that exist in a place besides `serve`."""
    return tuple(option for option in load() if place in option.also)


def _option(entry: dict[str, Any]) -> Option:
    entry["field"] = entry.get("field", entry["name"].replace("-", "_"))
    entry["metavar"] = entry.get("metavar", _METAVARS.get(entry["type"]))
    entry["choices"] = tuple(entry.get("choices", ()))
    entry["also"] = tuple(entry.get("also", ()))
    return Option(**entry)
