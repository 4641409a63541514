"""Wheels -> one virtual environment of links: `environment.py OUT INTERPRETER OVERLAYS WHEELS`.

OVERLAYS and WHEELS name files that list store paths. An overlay's files stand in for the same files of a
wheel, while two wheels that bring different files under one name are an error. Directories are real and every
file is a link of its own: `$ORIGIN` of a library is the directory it is found in, and wheels reach into one
another through it (`$ORIGIN/../../nvidia`).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

SHEBANG = b"#!/usr/bin/python3.11"
# Left in by how some wheels are built (flashinfer-python, torch-c-dlpack-ext); nothing imports them.
STRAY = re.compile(r"lib/python3\.11/site-packages/(__pycache__/)?build_backend\.")


def place(source: str, target: str, out: Path) -> None:
    """Link one file, or copy it where it is a script that needs this environment's interpreter."""
    if "/bin/" in target:
        with open(source, "rb") as file:
            content = file.read()
        if content.startswith(SHEBANG):
            Path(target).write_bytes(content.replace(SHEBANG, f"#!{out}/bin/python3.11".encode(), 1))
            os.chmod(target, 0o755)
            return
    os.symlink(source, target)


def same(one: str, other: str) -> bool:
    return Path(one).read_bytes() == Path(other).read_bytes()


def link(root: str, out: Path, owners: dict[str, str], overlaid: frozenset[str] = frozenset()) -> list[str]:
    """Link everything below `root`; returns the paths that an earlier wheel has placed with other content."""
    clashes = []
    for directory, _, files in os.walk(root):
        relative = os.path.relpath(directory, root)
        os.makedirs(out / relative, exist_ok=True)
        for file in files:
            path = os.path.normpath(os.path.join(relative, file))
            source = os.path.join(directory, file)
            if STRAY.match(path):
                continue
            if path in owners:
                if path not in overlaid and not same(owners[path], source):
                    clashes.append(f"{path}: {owners[path]} and {source}")
                continue
            owners[path] = source
            place(source, str(out / path), out)
    return clashes


def main(out: Path, interpreter: str, overlays: list[str], roots: list[str]) -> None:
    (out / "bin").mkdir(parents=True)
    for name in ("python", "python3", "python3.11"):
        (out / "bin" / name).symlink_to(interpreter)
    (out / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(interpreter)}\ninclude-system-site-packages = false\n"
    )
    owners: dict[str, str] = {}
    clashes = [clash for root in overlays for clash in link(root, out, owners)]
    overlaid = frozenset(owners)
    clashes += [clash for root in roots for clash in link(root, out, owners, overlaid)]
    if clashes:
        sys.exit("two wheels bring different files under one name:\n" + "\n".join(clashes))


if __name__ == "__main__":
    overlays, wheels = (Path(listing).read_text().split() for listing in sys.argv[3:5])
    main(Path(sys.argv[1]), sys.argv[2], overlays, wheels)
