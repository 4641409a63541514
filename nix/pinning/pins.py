"""The generated pins: which files the flake is made of, by name, version and SHA-256."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pinning import store
from pinning.failure import UserError

DEBIAN_ARCHITECTURES = {"x86_64-linux": "amd64", "aarch64-linux": "arm64"}
KINDS = ("debian", "pypi")


@dataclass(frozen=True)
class Pin:
    """One pinned file.

    `kind` is one of KINDS; `file` is a Debian package's pool path, a wheel's file name; `sha256` is in
    base 16, `size` in bytes.
    """

    kind: str
    file: str
    name: str
    version: str
    sha256: str
    size: int

    @property
    def store_name(self) -> str:
        # A store name may hold no "~", which Debian versions do.
        return self.file.rsplit("/", 1)[-1].replace("~", "_")

    @property
    def store_path(self) -> str:
        return store.fixed_output_path(self.store_name, self.sha256)

    @property
    def architecture(self) -> str:
        """A Debian package's architecture, which ends its file name (`all` included)."""
        return self.file.rsplit("_", 1)[-1].removesuffix(".deb")


@dataclass(frozen=True)
class Seed:
    """The busybox that starts the build: a directory with `bin/busybox`, by the SHA-256 of its NAR."""

    system: str
    package: Pin
    sha256: str

    store_name = "busybox"

    @property
    def store_path(self) -> str:
        return store.fixed_output_path(self.store_name, self.sha256, recursive=True)


@dataclass(frozen=True)
class Pins:
    """All that is pinned: the files of both kinds, and a seed for each system."""

    files: tuple[Pin, ...]
    seeds: tuple[Seed, ...]


def read(directory: Path) -> Pins:
    """Read `debian.json` and `pypi.json`. Raises UserError where one is not as `update` writes it."""
    try:
        tables = {kind: json.loads((directory / f"{kind}.json").read_text()) for kind in KINDS}
        files = {
            kind: {file: Pin(kind, file, **entry) for file, entry in tables[kind]["files"].items()}
            for kind in KINDS
        }
        seeds = tuple(
            Seed(system, files["debian"][entry["file"]], entry["sha256"])
            for system, entry in tables["debian"]["seed"].items()
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the pins in {directory} cannot be read ({error}): restore them with git, or run update"
        ) from error
    return Pins(tuple(pin for kind in KINDS for pin in files[kind].values()), seeds)
