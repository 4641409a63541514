"""What we say of licences ourselves, each with its reason: overrides.toml, unfree.toml and inside.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Any

from sbom.licence import Licence, Term, spdx

_FOLDER = Path(__file__).parent


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether one of the shell's patterns is all of a text."""
    return _compiled(patterns).fullmatch(text) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))


@dataclass(frozen=True)
class Bundle:
    """What a wheel bundles under other terms than its own; `files` are patterns for paths in the wheel."""

    name: str
    files: tuple[str, ...]
    licence: Licence

    def holds(self, path: str) -> bool:
        return matches(self.files, path)


@dataclass(frozen=True)
class Tables:
    """Licences by wheel, by Debian's source package, and by those of its packages that differ from it.

    `bundles` are by wheel; `watched` are patterns for the names of files.
    """

    wheels: dict[str, Licence]
    unfree: dict[str, Licence]
    sources: dict[str, Licence]
    packages: dict[str, Licence]
    bundles: dict[str, tuple[Bundle, ...]]
    watched: tuple[str, ...]


def read(folder: Path = _FOLDER) -> Tables:
    """Read the three tables of a folder. Raises ValueError where a licence is not as SPDX spells it."""
    overrides, unfree, inside = (
        tomllib.loads((folder / f"{name}.toml").read_text()) for name in ("overrides", "unfree", "inside")
    )
    terms = {
        key: Term(entry["fullName"], known=False, url=entry.get("url"))
        for key, entry in unfree["terms"].items()
    }
    return Tables(
        wheels={name: _licence(entry) for name, entry in overrides["wheels"].items()},
        unfree={
            name: Licence((terms[entry["terms"]],), entry["reason"])
            for name, entry in unfree["wheels"].items()
        },
        sources={name: _licence(entry) for name, entry in overrides["debian"].items()},
        packages={
            package: Licence(_expressions(licences), entry["reason"])
            for entry in overrides["debian"].values()
            for package, licences in entry.get("packages", {}).items()
        },
        bundles={
            wheel: tuple(
                Bundle(entry["name"], tuple(entry["files"]), _licence(entry, terms)) for entry in entries
            )
            for wheel, entries in inside["wheels"].items()
        },
        watched=tuple(inside["watched"]),
    )


def _licence(entry: dict[str, Any], terms: dict[str, Term] | None = None) -> Licence:
    if terms is not None and "terms" in entry:
        return Licence((terms[entry["terms"]],), entry["reason"])
    named = tuple(Term(name, known=False) for name in entry.get("names", []))
    return Licence(_expressions(entry["licences"]) + named, entry["reason"])


def _expressions(licences: list[str]) -> tuple[Term, ...]:
    for each in licences:
        if spdx(each) != each:
            raise ValueError(f"{each} is not how SPDX spells a licence: correct it in {_FOLDER.name}")
    return tuple(Term(each) for each in licences)
