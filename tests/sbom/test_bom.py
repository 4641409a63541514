"""A small product's bill of materials."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packages import deb, wheel
from sbom import bom, tables
from sbom.licence import Licence, Term
from sbom.manifest import Manifest, Patch

COPYRIGHT = (
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: {}\n"
)
EMPTY = tables.Tables({}, {}, {}, {}, {}, ("libclosed*",))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    patch = tmp_path / "0001-mend.patch"
    patch.write_text("Mend\n\n--- a/engine/core.py\n+++ b/engine/core.py\n@@ -1 +1 @@\n-a\n+ä\n")
    return Manifest(
        system="aarch64-linux",
        suite="bookworm",
        own={"name": "ours", "version": "0.1", "license": "Apache-2.0"},
        debs=(
            deb(tmp_path, "libone", COPYRIGHT.format("GPL-2+"), source="one (1.0-1)"),
            deb(tmp_path, "libtwo", link="libone", source="one (1.0-1)"),
            deb(tmp_path, "prose", "Do as you like."),
        ),
        wheels=(
            wheel(tmp_path, "engine", "License-Expression: Apache-2.0\n"),
            wheel(tmp_path, "closed", "License: LicenseRef-Proprietary\n", {"closed/libclosed.so": "."}),
            wheel(tmp_path, "wrapper", "License: MIT\n", {"wrapper/libclosed.so.1": ".", "wrapper/a.py": ""}),
        ),
        patches=(Patch("patches/engine/0001-mend.patch", "engine", patch),),
    )


@pytest.fixture
def known() -> tables.Tables:
    terms = Term("Closed terms", known=False, url="https://example.com/terms")
    return replace(
        EMPTY,
        unfree={"closed": Licence((terms,), "its LICENSE")},
        sources={"prose": Licence((Term("ISC"),), "its copyright file")},
        bundles={
            "wrapper": (tables.Bundle("closed", ("wrapper/lib*",), Licence((terms,), "it is closed's")),)
        },
    )


def components(document: str) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(document)["components"]}


def test_a_bill_is_valid_and_the_same_each_time(manifest: Manifest, known: tables.Tables) -> None:
    first, second = bom.make(manifest, known), bom.make(manifest, known)
    assert first == second
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(first) is None
    assert not re.search(r"20\d\d-\d\d-\d\dT", first), "a time would not be the same twice"


def test_the_validator_refuses_what_is_not_in_the_format(manifest: Manifest, known: tables.Tables) -> None:
    document = json.loads(bom.make(manifest, known))
    document["components"][0]["colour"] = "green"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is not None


def test_the_order_of_pins_does_not_matter(manifest: Manifest, known: tables.Tables) -> None:
    turned = replace(manifest, debs=manifest.debs[::-1], wheels=manifest.wheels[::-1])
    assert bom.make(turned, known) == bom.make(manifest, known)


def test_another_pin_has_another_serial_number(manifest: Manifest, known: tables.Tables) -> None:
    other = replace(manifest, wheels=(replace(manifest.wheels[0], sha256="0" * 64), *manifest.wheels[1:]))
    serials = [json.loads(bom.make(each, known))["serialNumber"] for each in (manifest, other)]
    assert len(set(serials)) == 2


def test_each_pin_is_a_component_with_its_hash(manifest: Manifest, known: tables.Tables) -> None:
    made = components(bom.make(manifest, known))
    assert set(made) == {
        "ours", "patches/engine/0001-mend.patch", "libone", "libtwo", "prose", "engine", "closed", "wrapper"
    }  # fmt: skip
    for pin in (*manifest.debs, *manifest.wheels):
        assert made[pin.name]["version"] == pin.version
        assert made[pin.name]["hashes"] == [{"alg": "SHA-256", "content": pin.sha256}]
    assert made["libone"]["purl"] == "pkg:deb/debian/libone@1.0-1%2Bb1?arch=arm64&distro=bookworm"
    assert made["engine"]["purl"] == "pkg:pypi/engine@1.0?file_name=engine-1.0-py3-none-any.whl"


def test_licences_say_whether_they_are_declared_or_concluded(
    manifest: Manifest, known: tables.Tables
) -> None:
    made = components(bom.make(manifest, known))
    declared = {"license": {"id": "GPL-2.0-or-later", "acknowledgement": "declared"}}
    assert made["libone"]["licenses"] == made["libtwo"]["licenses"] == [declared]
    assert made["prose"]["licenses"] == [{"license": {"id": "ISC", "acknowledgement": "concluded"}}]
    closed = {"name": "Closed terms", "url": "https://example.com/terms", "acknowledgement": "concluded"}
    assert made["closed"]["licenses"] == [{"license": closed}]
    assert {"name": "dgx-vllm:licence:reason", "value": "its LICENSE"} in made["closed"]["properties"]


def test_a_package_names_its_source(manifest: Manifest, known: tables.Tables) -> None:
    (source,) = components(bom.make(manifest, known))["libtwo"]["pedigree"]["ancestors"]
    assert source["purl"] == "pkg:deb/debian/one@1.0-1?arch=source&distro=bookworm"


def test_a_wheel_has_what_it_bundles(manifest: Manifest, known: tables.Tables) -> None:
    (part,) = components(bom.make(manifest, known))["wrapper"]["components"]
    assert part["licenses"][0]["license"]["name"] == "Closed terms"


def test_patches_have_a_hash_and_are_in_the_pedigree(manifest: Manifest, known: tables.Tables) -> None:
    document = bom.make(manifest, known)
    made = components(document)
    (patch,) = manifest.patches
    assert made[patch.file]["hashes"] == [{"alg": "SHA-256", "content": patch.sha256}]
    (entry,) = made["engine"]["pedigree"]["patches"]
    assert entry["diff"]["url"] == patch.file
    assert entry["diff"]["text"]["content"] == patch.path.read_text()
    edges = {each["ref"]: each.get("dependsOn") for each in json.loads(document)["dependencies"]}
    assert edges[made["engine"]["bom-ref"]] == [patch.file]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("unfree", "closed: METADATA says LicenseRef-Proprietary"),
        ("sources", "prose (of prose): its copyright file is not machine-readable"),
        ("bundles", "wrapper: wrapper/libclosed.so.1 is under other terms than the wheel"),
    ],
)
def test_what_no_table_knows_is_an_error(
    manifest: Manifest, known: tables.Tables, table: str, line: str
) -> None:
    with pytest.raises(bom.UnknownLicenceError, match=f"^{re.escape(line)}$"):
        bom.make(manifest, replace(known, **{table: {}}))


def test_a_link_to_nowhere_is_an_error(manifest: Manifest, known: tables.Tables) -> None:
    with pytest.raises(bom.UnknownLicenceError, match="libtwo"):
        bom.make(replace(manifest, debs=manifest.debs[1:]), known)
