"""`nix run .#audit`: what the archives have that is newer than the pins.

Exit status 1 where Debian's security archive has something newer.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from pinning import child
from pinning.apt import PrivateApt
from pinning.failure import UserError, exit_with
from pinning.pins import DEBIAN_ARCHITECTURES, Pin, read
from pinning.table import Row, console, show


def debian_rows(pins: list[Pin], codename: str) -> list[Row]:
    """(package, pinned, newer) of the packages that the security archive has newer."""
    rows: set[Row] = set()
    for architecture in DEBIAN_ARCHITECTURES.values():
        pinned = {pin.name: pin.version for pin in pins if pin.architecture in (architecture, "all")}
        with PrivateApt(codename, architecture, security=True) as apt:
            apt.update()
            candidates = apt.candidates(sorted(pinned))
        rows |= {
            (name, version, candidates[name])
            for name, version in pinned.items()
            if name in candidates and newer(candidates[name], version)
        }
    return sorted(rows)


def newer(version: str, than: str) -> bool:
    """Debian's own order of versions."""
    return child.run(["dpkg", "--compare-versions", version, "gt", than]).returncode == 0


def pypi_rows(pins: list[Pin], python: str) -> list[Row]:
    """(package, pinned, newest) of the wheels with a newer release, as uv's `tree --outdated` sees it."""
    exact = sorted({f"{pin.name}=={pin.version}" for pin in pins})
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-audit-") as name:
        # Overrides, so that what the pins override does not matter here.
        Path(name, "pyproject.toml").write_text(
            '[project]\nname = "audit"\nversion = "0"\nrequires-python = "==3.11.*"\n'
            f"dependencies = {json.dumps(exact)}\n"
            "[tool.uv]\nno-build = true\nenvironments = [\"sys_platform == 'linux'\"]\n"
            f"override-dependencies = {json.dumps(exact)}\n"
        )
        for command in (
            ["uv", "lock", "--quiet", "--python", python],
            ["uv", "tree", "--frozen", "--universal", "--outdated", "--depth", "1"],
        ):
            done = child.run(command, cwd=Path(name))
            if done.returncode:
                raise UserError(
                    f"uv could not look up the wheels' releases: {' '.join(done.stderr.split())[:400]}"
                )
    found = re.findall(r"(\S+) v(\S+)(?: \(extra[^)]*\))? \(latest: v(\S+)\)", done.stdout)
    return sorted(set(found))


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="audit", description=__doc__).parse_args(arguments)
    directory = Path.cwd() / "nix/pins"
    pins = read(directory)
    codename = json.loads((directory / "debian.json").read_text())["suite"]
    headings = ("package", "pinned", "newer")
    debian = debian_rows([pin for pin in pins.files if pin.kind == "debian"], codename)
    wheels = pypi_rows([pin for pin in pins.files if pin.kind == "pypi"], sys.executable)
    show("Debian packages with a newer version in the security archive", headings, debian)
    show("wheels with a newer release", headings, wheels)
    if debian:
        console.print("`nix run .#update -- --security` re-pins to the security archive's versions.")
    return 1 if debian else 0


if __name__ == "__main__":
    exit_with(main)
