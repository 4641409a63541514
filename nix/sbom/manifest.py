"""What the bill of materials is made from: the pins of a platform's product, with where their files are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pin:
    """One pinned file, at `path`. `file` is its pool path or its wheel's name."""

    file: str
    name: str
    version: str
    sha256: str
    path: Path


@dataclass(frozen=True)
class Patch:
    """One patch of ours; `file` is where our tree has it, `project` the name of the wheel that it changes."""

    file: str
    project: str
    path: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """A platform's product; `own` is our package's `name`, `version` and `license`."""

    system: str
    suite: str
    own: dict[str, str]
    debs: tuple[Pin, ...]
    wheels: tuple[Pin, ...]
    patches: tuple[Patch, ...]


def read(path: Path) -> Manifest:
    """Read what default.nix wrote."""
    table: dict[str, Any] = json.loads(path.read_text())
    return Manifest(
        system=table["system"],
        suite=table["suite"],
        own=table["own"],
        debs=tuple(_pin(entry) for entry in table["debs"]),
        wheels=tuple(_pin(entry) for entry in table["wheels"]),
        patches=tuple(
            Patch(entry["file"], entry["project"], Path(entry["path"])) for entry in table["patches"]
        ),
    )


def _pin(entry: dict[str, Any]) -> Pin:
    return Pin(entry["file"], entry["name"], entry["version"], entry["sha256"], Path(entry["path"]))
