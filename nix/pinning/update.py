"""`nix run .#update`: rebuild nix/pins/{debian,pypi}.json from the package managers' own indexes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from pinning import debian, uv
from pinning.failure import UserError, exit_with
from pinning.pins import KINDS, Pin
from pinning.table import Row, console, show

Table = dict[str, Any]

FILE_FIELDS = ("name", "version", "sha256", "size")


def _files(pins: dict[str, Pin]) -> dict[str, dict[str, object]]:
    return {file: {field: getattr(pins[file], field) for field in FILE_FIELDS} for file in sorted(pins)}


def _versions(table: Table) -> dict[str, str]:
    """Package -> its versions, over all files of one kind."""
    versions: dict[str, set[str]] = {}
    for entry in table.get("files", {}).values():
        versions.setdefault(entry["name"], set()).add(entry["version"])
    return {name: ", ".join(sorted(found)) for name, found in versions.items()}


def changes(before: Table, after: Table) -> list[Row]:
    """(package, version before, version after) wherever they differ; "" where there is none."""
    old, new = _versions(before), _versions(after)
    return [
        (name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _has_security(debian: Table) -> bool:
    """Whether files of Debian's security archive are pinned; that is where its own lie."""
    return any(file.startswith("pool/updates/") for file in debian.get("files", {}))


def _read(path: Path) -> Table:
    return json.loads(path.read_text()) if path.is_file() else {}


def _write(directory: Path, tables: dict[str, Table]) -> None:
    """Put every table in the place of what there was, or none."""
    new = {directory / f"{kind}.json": directory / f"{kind}.json.new" for kind in tables}
    try:
        for temporary, table in zip(new.values(), tables.values(), strict=True):
            temporary.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        for path, temporary in new.items():
            os.replace(temporary, path)
    finally:
        for temporary in new.values():
            temporary.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="update", description=__doc__)
    parser.add_argument(
        "--security", action="store_true", help="take newer packages from Debian's security archive"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep every pinned wheel's version, and Debian's security archive if it is in use",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and write nothing")
    options = parser.parse_args(arguments)
    pins = Path.cwd() / "nix/pins"
    if not (pins / "pyproject.toml").is_file():
        raise UserError("there is no nix/pins here: run this at the top of a checkout")
    before = {kind: _read(pins / f"{kind}.json") for kind in KINDS}
    kept = _versions(before["pypi"]) if options.keep else {}
    security = options.security or (options.keep and _has_security(before["debian"]))
    with console.status("resolving Debian packages and wheels"):
        debs = debian.resolve(pins / "debian.toml", security=security)
        wheels = uv.resolve(pins / "pyproject.toml", sys.executable, kept)
    tables: dict[str, Table] = {
        "debian": {
            "suite": debs.suite,
            "files": _files(debs.files),
            "groups": debs.groups,
            "seed": debs.seed,
        },
        "pypi": {"files": _files(wheels.files), "groups": wheels.groups},
    }
    for kind in KINDS:
        title = f"{kind}: {len(tables[kind]['files'])} files; versions changed"
        show(title, ("package", "before", "after"), changes(before[kind], tables[kind]))
    if not options.dry_run:
        _write(pins, tables)
    return 0


if __name__ == "__main__":
    exit_with(main)
