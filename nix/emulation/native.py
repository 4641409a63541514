"""Build a derivation's recipe again and hold the result against its output: `native.py RECIPE REPORT`.

Runs in a mount namespace of its own, as its root, where programs of another platform run. The recipe is shown
the store without the output, so that it builds it again under the same name.

Environment: BUSYBOX, for its mount; TMPDIR, left for its owner to clear, since store paths are mounted there.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

STORE = Path("/nix/store")

#: What Nix keeps of a file: its kind (an executable one is a "program"), its bytes or a link's target.
Kept = tuple[str, bytes]


class Recipe(TypedDict):
    """A derivation, as native.nix writes it."""

    builder: str
    builderArguments: list[str]
    environment: dict[str, str]


def _bind(source: Path, target: Path, how: str = "--bind") -> None:
    subprocess.run([os.environ["BUSYBOX"], "mount", how, str(source), str(target)], check=True)


def hide(output: Path, top: Path) -> Path:
    """Put a store without `output` over the store; gives the place where the output now is."""
    aside, view = top / "assembled", top / "store"
    aside.mkdir()
    view.mkdir()
    _bind(output, aside)
    for path in STORE.iterdir():
        place = view / path.name
        if path == output:
            continue
        if path.is_symlink():
            place.symlink_to(os.readlink(path))
            continue
        place.mkdir() if path.is_dir() else place.touch()
        _bind(path, place)
    _bind(view, STORE, "--rbind")
    return aside


def build(recipe: Recipe, top: Path) -> None:
    """Run the builder as Nix does: in an empty directory, with the derivation's own environment."""
    top.mkdir()
    own = dict(recipe["environment"])
    for name in own.pop("passAsFile", "").split():
        (top / f".attr-{name}").write_text(own.pop(name))
        own[f"{name}Path"] = str(top / f".attr-{name}")
    places = dict.fromkeys(("NIX_BUILD_TOP", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "PWD"), str(top))
    nix = {"PATH": "/path-not-set", "HOME": "/homeless-shelter", "NIX_STORE": str(STORE), **places}
    command = [recipe["builder"], *recipe["builderArguments"]]
    subprocess.run(command, cwd=top, env=nix | own, check=True)


def contents(root: Path) -> dict[str, Kept]:
    """What Nix keeps of a tree, by path."""
    found: dict[str, Kept] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                kept = ("link", os.readlink(path).encode())
            elif stat.S_ISDIR(mode):
                kept = ("directory", b"")
            else:
                kept = ("program" if mode & stat.S_IXUSR else "file", path.read_bytes())
            found[str(path.relative_to(root))] = kept
    return found


def main(recipe_path: Path, report: Path) -> int:
    recipe: Recipe = json.loads(recipe_path.read_text())
    output = Path(recipe["environment"]["out"])
    top = Path(os.environ["TMPDIR"]) / "native"
    top.mkdir()
    aside = hide(output, top)
    start = time.monotonic()
    build(recipe, top / "build")
    line = f"{output.name}: built natively in {time.monotonic() - start:.0f} s"
    native, assembled = contents(output), contents(aside)
    different = [
        name for name in sorted(native.keys() | assembled.keys()) if native.get(name) != assembled.get(name)
    ]
    for name in different:
        print(f"{name}: native {_say(native.get(name))}, assembled {_say(assembled.get(name))}")
    line += f", {len(assembled)} files and directories, {len(different)} different"
    print(line, flush=True)
    report.write_text(line + "\n")
    return int(bool(different) or not assembled)


def _say(kept: Kept | None) -> str:
    return "nothing" if kept is None else f"a {kept[0]} of {len(kept[1])} bytes"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
