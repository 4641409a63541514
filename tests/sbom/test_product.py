"""The bills of materials of the products, held against the pins.

SBOM names the documents, as nix/sbom makes them, by platform: `aarch64-linux=PATH:x86_64-linux=PATH`.
"""

import functools
import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from sbom import tables
from sbom.licence import spdx

NIX = Path(tables.__file__).parents[1]
DOCUMENTS = dict(each.split("=", 1) for each in os.environ.get("SBOM", "").split(":") if each)
GROUPS = {"aarch64-linux": "cuda", "x86_64-linux": "cpu"}

pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="SBOM names no document")
each_platform = pytest.mark.parametrize("system", sorted(DOCUMENTS))


def pins(kind: str, group: str, system: str) -> list[dict[str, Any]]:
    table = json.loads((NIX / f"pins/{kind}.json").read_text())
    return [{**table["files"][file], "file": file} for file in table["groups"][group][system]]


@functools.cache
def document(system: str) -> dict[str, Any]:
    return json.loads(Path(DOCUMENTS[system]).read_text())


def of_kind(system: str, kind: str) -> list[dict[str, Any]]:
    return [
        each for each in document(system)["components"] if each.get("purl", "").startswith(f"pkg:{kind}/")
    ]


def every(system: str) -> list[dict[str, Any]]:
    components = document(system)["components"]
    return components + [part for each in components for part in each.get("components", [])]


@each_platform
def test_the_products_bill_validates(system: str) -> None:
    text = Path(DOCUMENTS[system]).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


@each_platform
@pytest.mark.parametrize(("kind", "purl"), [("debian", "deb"), ("pypi", "pypi")])
def test_every_pin_is_there_once_and_nothing_else(system: str, kind: str, purl: str) -> None:
    group = "base" if kind == "debian" else GROUPS[system]
    wanted = sorted((pin["name"], pin["version"], pin["sha256"]) for pin in pins(kind, group, system))
    found = [(each["name"], each["version"], each["hashes"][0]["content"]) for each in of_kind(system, purl)]
    assert sorted(found) == wanted


@each_platform
def test_the_rest_is_ours(system: str) -> None:
    ours = [each for each in document(system)["components"] if "purl" not in each]
    assert [each["name"] for each in ours if each["type"] == "library"] == ["dgx-vllm"]
    for each in ours:
        if each["type"] == "file":
            digest = hashlib.sha256((NIX.parent / each["name"]).read_bytes()).hexdigest()
            assert each["hashes"] == [{"alg": "SHA-256", "content": digest}]


@pytest.mark.skipif(set(DOCUMENTS) != set(GROUPS), reason="a patch may be another platform's")
def test_every_patch_is_there() -> None:
    found = {
        each["name"]
        for system in DOCUMENTS
        for each in document(system)["components"]
        if each["type"] == "file"
    }
    assert found == {str(path.relative_to(NIX.parent)) for path in NIX.parent.glob("patches/*/*.patch")}


@each_platform
def test_every_component_has_a_licence_and_every_expression_is_spdx(system: str) -> None:
    for each in every(system):
        assert each["licenses"], each["name"]
        for entry in each["licenses"]:
            if "expression" in entry:
                assert spdx(entry["expression"]) is not None, each["name"]
            else:
                assert entry["license"].get("id") or entry["license"]["name"].strip(), each["name"]


@each_platform
def test_what_is_concluded_has_a_reason(system: str) -> None:
    for each in every(system):
        said = {
            entry.get("acknowledgement") or entry["license"]["acknowledgement"] for entry in each["licenses"]
        }
        reasons = [each for each in each.get("properties", []) if each["name"] == "dgx-vllm:licence:reason"]
        assert (said == {"concluded"}) == bool(reasons), each["name"]


@each_platform
def test_what_is_not_free_is_what_the_table_says(system: str) -> None:
    unfree = tomllib.loads((NIX / "sbom/unfree.toml").read_text())
    terms = {entry["fullName"] for entry in unfree["terms"].values()}
    found = {
        each["name"]
        for each in of_kind(system, "pypi")
        for entry in each["licenses"]
        if entry.get("license", {}).get("name") in terms
    }
    wanted = {pin["name"] for pin in pins("pypi", GROUPS[system], system)} & set(unfree["wheels"])
    assert found == wanted


@each_platform
def test_nothing_else_calls_itself_proprietary(system: str) -> None:
    unfree = tomllib.loads((NIX / "sbom/unfree.toml").read_text())["wheels"]
    for each in of_kind(system, "pypi"):
        names = " ".join(entry.get("license", {}).get("name", "") for entry in each["licenses"])
        assert each["name"] in unfree or "roprietary" not in names, each["name"]


@pytest.mark.skipif(set(DOCUMENTS) != set(GROUPS), reason="an entry may be another platform's")
def test_no_entry_of_our_tables_is_left_over() -> None:
    read = tables.read()
    wheels = {each["name"] for system in DOCUMENTS for each in of_kind(system, "pypi")}
    packages = {each["name"] for system in DOCUMENTS for each in of_kind(system, "deb")}
    sources = {
        ancestor["name"]
        for system in DOCUMENTS
        for each in of_kind(system, "deb")
        for ancestor in each["pedigree"]["ancestors"]
    }
    parts = {
        (each["name"], part["name"])
        for system in DOCUMENTS
        for each in of_kind(system, "pypi")
        for part in each.get("components", [])
    }
    assert set(read.wheels) | set(read.unfree) <= wheels
    assert set(read.packages) <= packages
    assert set(read.sources) <= sources
    assert {(wheel, bundle.name) for wheel, bundles in read.bundles.items() for bundle in bundles} == parts
