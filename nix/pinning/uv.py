"""uv's resolution of `pyproject.toml`: one for all groups and architectures, and the wheel each takes."""

from __future__ import annotations

import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from pinning import child
from pinning.failure import UserError
from pinning.pins import Pin

MACHINES = {"x86_64-linux": "x86_64", "aarch64-linux": "aarch64"}
PYTHON = (3, 11)
GLIBC_MINOR = 36  # Debian 12's


@dataclass(frozen=True)
class Resolution:
    """`groups[group][system]` lists wheels' file names; `files` holds the pin of each."""

    files: dict[str, Pin]
    groups: dict[str, dict[str, list[str]]]


def _tags(machine: str) -> dict[Tag, int]:
    """The tags that Debian 12's CPython takes on `machine`, with their rank, best first."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 16, -1)]
    platforms.insert(platforms.index(f"manylinux_2_17_{machine}") + 1, f"manylinux2014_{machine}")
    platforms += [
        f"manylinux_2_12_{machine}",
        f"manylinux2010_{machine}",
        f"manylinux_2_5_{machine}",
        f"manylinux1_{machine}",
    ]
    platforms += [f"linux_{machine}"]
    tags = [*cpython_tags(PYTHON, platforms=platforms), *compatible_tags(PYTHON, "cp311", platforms)]
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}


def _environment(machine: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "python_version": "3.11",
        "python_full_version": "3.11.2",
        "extra": "",
    }


def _wheel(package: dict[str, Any], system: str) -> Pin:
    tags = _tags(MACHINES[system])
    best: tuple[int, dict[str, Any]] | None = None
    for wheel in package.get("wheels", []):
        file = unquote(wheel["url"].rsplit("/", 1)[-1])
        rank = min((tags[tag] for tag in parse_wheel_filename(file)[3] if tag in tags), default=None)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, {**wheel, "file": file}
    name, version = package["name"], package["version"]
    if best is None:
        raise UserError(
            f"{name} {version} has no wheel for {system}: constrain it in nix/pins/pyproject.toml"
        )
    wheel = best[1]
    algorithm, _, digest = wheel.get("hash", "").partition(":")
    if algorithm != "sha256" or "size" not in wheel:
        raise UserError(f"the index gives no SHA-256 and size for {wheel['file']}: nothing was written")
    return Pin("pypi", wheel["file"], name, version, digest, wheel["size"])


def _exported(group: str, directory: Path) -> list[tuple[str, Marker | None]]:
    """A group's packages, each with the marker that says where it is needed."""
    command = ["uv", "export", "--quiet", "--frozen", "--no-hashes", "--no-annotate", "--no-header"]
    text = _run([*command, "--no-emit-project", "--only-group", group], directory)
    rows = []
    for line in text.splitlines():
        requirement, _, marker = line.partition(" ; ")
        rows.append((requirement.partition("==")[0].strip(), Marker(marker) if marker else None))
    return rows


def _run(command: list[str], directory: Path) -> str:
    done = child.run(command, cwd=directory)
    if done.returncode:
        raise UserError(
            f"uv could not resolve nix/pins/pyproject.toml: {' '.join(done.stderr.split())[:600]}"
        )
    return done.stdout


_CONSTRAINTS = "constraint-dependencies = [\n"


def _constrained(request: str, kept: dict[str, str]) -> str:
    """`request` with the versions of `kept` among its constraints."""
    lines = [f'  "{name}=={version}",\n' for name, version in kept.items()]
    if _CONSTRAINTS not in request:
        raise UserError("nix/pins/pyproject.toml has no list of constraint-dependencies to add to")
    return request.replace(_CONSTRAINTS, _CONSTRAINTS + "".join(lines))


def resolve(request: Path, python: str, kept: dict[str, str] | None = None) -> Resolution:
    """Resolve `request` (a pyproject.toml) from the index as it is today, with an interpreter of Python 3.11.

    `kept` are versions by package that must not change.

    Raises UserError where it has no solution, or the index gives a wheel no hash.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    files: dict[str, Pin] = {}
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-uv-") as name:
        directory = Path(name)
        text = request.read_text()
        (directory / "pyproject.toml").write_text(_constrained(text, kept) if kept else text)
        _run(["uv", "lock", "--quiet", "--python", python], directory)
        lock = tomllib.loads((directory / "uv.lock").read_text())
        packages: dict[str, dict[str, Any]] = {}
        for package in lock["package"]:
            if "registry" not in package["source"]:
                continue
            if package["name"] in packages:
                raise UserError(
                    f"{package['name']} resolves to two versions: constrain it in nix/pins/pyproject.toml"
                )
            packages[package["name"]] = package
        for group in tomllib.loads(request.read_text())["dependency-groups"]:
            exported = _exported(group, directory)
            groups[group] = {}
            for system, machine in MACHINES.items():
                environment = _environment(machine)
                needed = [name for name, marker in exported if marker is None or marker.evaluate(environment)]
                pins = [_wheel(packages[name], system) for name in needed]
                files |= {pin.file: pin for pin in pins}
                groups[group][system] = sorted(pin.file for pin in pins)
    return Resolution(files, groups)
