"""`nix run .#update`: make nix/pins/{debian,pypi}.json anew from the package managers' own indexes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pinning import debian, uv
from pinning.failure import UserError, exit_with
from pinning.pins import KINDS, Pin
from pinning.table import Row, console, show

FILE_FIELDS = ("name", "version", "sha256", "size")


def _files(pins: dict[str, Pin]) -> dict[str, dict[str, object]]:
    return {file: {field: getattr(pins[file], field) for field in FILE_FIELDS} for file in sorted(pins)}


def _versions(table: dict) -> dict[str, str]:
    """Package -> its versions, over all files of one kind."""
    versions: dict[str, set[str]] = {}
    for entry in table.get("files", {}).values():
        versions.setdefault(entry["name"], set()).add(entry["version"])
    return {name: ", ".join(sorted(found)) for name, found in versions.items()}


def changes(before: dict, after: dict) -> list[Row]:
    """(package, version before, version after) wherever they differ; "" where there is none."""
    old, new = _versions(before), _versions(after)
    return [
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _write(path: Path, table: dict) -> None:
    temporary = path.with_suffix(".json.new")
    temporary.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="update", description=__doc__)
    parser.add_argument(
        "--security", action="store_true", help="take newer packages from Debian's security archive"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and write nothing")
    options = parser.parse_args(arguments)
    pins = Path.cwd() / "nix/pins"
    if not (pins / "pyproject.toml").is_file():
        raise UserError("there is no nix/pins here: run this at the top of a checkout")
    with console.status("resolving Debian packages and wheels"):
        debs = debian.resolve(pins / "debian.toml", security=options.security)
        wheels = uv.resolve(pins / "pyproject.toml", sys.executable)
    tables = {
        "debian": {
            "suite": debs.suite,
            "files": _files(debs.files),
            "groups": debs.groups,
            "seed": debs.seed,
        },
        "pypi": {"files": _files(wheels.files), "groups": wheels.groups},
    }
    for kind in KINDS:
        path = pins / f"{kind}.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        title = f"{kind}: {len(tables[kind]['files'])} files; versions changed"
        show(title, ("package", "before", "after"), changes(before, tables[kind]))
    if not options.dry_run:
        for kind in KINDS:
            _write(pins / f"{kind}.json", tables[kind])
    return 0


if __name__ == "__main__":
    exit_with(main)
