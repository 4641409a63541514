"""apt's resolution of `debian.toml`, for both architectures, and the seed's hash."""

from __future__ import annotations

import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pinning import store
from pinning.apt import PrivateApt
from pinning.failure import UserError
from pinning.pins import DEBIAN_ARCHITECTURES, Pin
from pinning.seed import unpack


@dataclass(frozen=True)
class Resolution:
    """`groups[group][system]` lists pool paths; `seed[system]` names a package and its busybox's hash."""

    suite: str
    files: dict[str, Pin]
    groups: dict[str, dict[str, list[str]]]
    seed: dict[str, dict[str, str]]


def _pin(record: dict[str, str]) -> Pin:
    try:
        return Pin(
            "debian",
            record["Filename"],
            record["Package"],
            record["Version"],
            record["SHA256"],
            int(record["Size"]),
        )
    except KeyError as error:
        raise UserError(
            f"the archive's index gives no {error} for {record.get('Package')}: nothing was written"
        ) from error


def _asked_on(architecture: str, names: list[str]) -> list[str]:
    """The packages to ask for: "NAME", or "NAME [ARCHITECTURE]", which other architectures do without."""
    fields = [name.partition(" [") for name in names]
    return [name for name, _, only in fields if only.removesuffix("]") in ("", architecture)]


def _seed_hash(apt: PrivateApt, pin: Pin) -> str:
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
        package = apt.download([(pin.name, pin.version)], Path(name))[pin.name, pin.version]
        unpack(package, Path(name) / "busybox")
        return store.nar_hash(Path(name) / "busybox")


def resolve(request: Path, *, security: bool = False) -> Resolution:
    """Resolve `request` (debian.toml) from the archive; with `security`, from the security archive too.

    Raises UserError where the archive does not answer or its index leaves a pin without its hash.
    """
    asked = tomllib.loads(request.read_text())
    without = set(asked["without"])
    files: dict[str, Pin] = {}
    groups: dict[str, dict[str, list[str]]] = {group: {} for group in asked["groups"]}
    seed = {}
    for system, architecture in DEBIAN_ARCHITECTURES.items():
        with PrivateApt(asked["suite"], architecture, security=security) as apt:
            apt.update()
            for group, names in asked["groups"].items():
                wanted = _asked_on(architecture, names)
                rows = [row for row in apt.closure(wanted) if row[0] not in without] if wanted else []
                pins = [_pin(record) for record in apt.records(rows)] if rows else []
                files |= {pin.file: pin for pin in pins}
                groups[group][system] = sorted(pin.file for pin in pins)
            package = _pin(apt.records(apt.closure([asked["seed"]]))[0])
            files[package.file] = package
            seed[system] = {"file": package.file, "sha256": _seed_hash(apt, package)}
    return Resolution(asked["suite"], files, groups, seed)
