"""nixpkgs' own fetchurl and fetchPypi ask for the very paths that the offline way fills.

Needs Nix and a nixpkgs, of which `lib` and `pkgs/build-support/{fetchurl,fetchpypi}` are enough:

    NIXPKGS=DIRECTORY pytest tests/pinning/test_nixpkgs_fetchers.py

Nothing is built or fetched, and nothing is written to the store.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pinning.pins import DEBIAN_ARCHITECTURES, read

HERE = Path(__file__).resolve().parent
PINS = HERE.parents[1] / "nix/pins"
NIXPKGS = os.environ.get("NIXPKGS")

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no directory with a nixpkgs"),
    pytest.mark.skipif(not shutil.which("nix-instantiate"), reason="there is no Nix here"),
]


def evaluated(pins: Path) -> dict[str, dict[str, str]]:
    """Store paths by system and pin, as nixpkgs' fetchers give them for the pins in a directory."""
    assert NIXPKGS
    command = ["nix-instantiate", "--eval", "--strict", "--json", "--readonly-mode"]
    command += ["--arg", "nixpkgs", str(Path(NIXPKGS).resolve()), "--arg", "pins", str(pins)]
    done = subprocess.run([*command, str(HERE / "nixpkgs_fetchers.nix")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    paths: dict[str, dict[str, str]] = json.loads(done.stdout)
    return paths


def offline() -> dict[str, str]:
    """Store paths by pin, as nix/offline.sh fills them."""
    pins = read(PINS)
    files = {pin.file: pin.store_path for pin in pins.files}
    return files | {seed.system: seed.store_path for seed in pins.seeds}


@pytest.fixture(scope="module")
def paths() -> dict[str, dict[str, str]]:
    return evaluated(PINS)


@pytest.mark.parametrize("system", DEBIAN_ARCHITECTURES)
def test_nixpkgs_fetchers_give_every_path_that_offline_fills(
    paths: dict[str, dict[str, str]], system: str
) -> None:
    assert paths[system] == offline()


@pytest.mark.parametrize("kind", ["debian", "pypi"])
def test_a_pin_of_another_hash_has_another_path(tmp_path: Path, kind: str) -> None:
    """What the test above compares does depend on each pin, and on that pin alone."""
    for each in PINS.glob("*.json"):
        shutil.copy(each, tmp_path)
    table = json.loads((tmp_path / f"{kind}.json").read_text())
    changed = next(iter(table["files"]))
    table["files"][changed]["sha256"] = "0" * 64
    (tmp_path / f"{kind}.json").write_text(json.dumps(table))
    right = offline()
    for given in evaluated(tmp_path).values():
        assert {file for file in right if given[file] != right[file]} == {changed}
