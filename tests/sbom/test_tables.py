"""Our own tables: each entry has a reason, and is used."""

import re
import tomllib
from pathlib import Path

import pytest
from sbom import tables

FOLDER = Path(tables.__file__).parent


def table(name: str) -> dict:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def test_every_table_is_read() -> None:
    read = tables.read()
    assert read.wheels
    assert read.unfree
    assert read.sources
    assert read.bundles


def test_a_misspelt_licence_is_refused(tmp_path: Path) -> None:
    for name in ("overrides", "unfree", "inside"):
        (tmp_path / f"{name}.toml").write_text((FOLDER / f"{name}.toml").read_text())
    path = tmp_path / "overrides.toml"
    path.write_text(path.read_text().replace('"BSD-3-Clause"', '"BSD 3"', 1))
    with pytest.raises(ValueError, match="BSD 3"):
        tables.read(tmp_path)


def test_every_entry_has_a_reason() -> None:
    overrides, unfree, inside = table("overrides"), table("unfree"), table("inside")
    entries = [*overrides["wheels"].values(), *overrides["debian"].values(), *unfree["wheels"].values()]
    entries += [entry for bundles in inside["wheels"].values() for entry in bundles]
    for entry in entries:
        assert len(entry["reason"]) > 10, entry


def test_no_wheel_is_both_free_and_not() -> None:
    assert not set(table("overrides")["wheels"]) & set(table("unfree")["wheels"])


def test_what_is_not_free_has_the_shape_of_a_licence_of_nixpkgs() -> None:
    unfree = table("unfree")
    for terms in unfree["terms"].values():
        assert {"shortName", "fullName"} <= set(terms) <= {"shortName", "fullName", "url"}
    for name, wheel in unfree["wheels"].items():
        assert wheel["terms"] in unfree["terms"], name
        assert isinstance(wheel["redistributable"], bool), name
    used = {wheel["terms"] for wheel in unfree["wheels"].values()}
    used |= {
        entry["terms"] for each in table("inside")["wheels"].values() for entry in each if "terms" in entry
    }
    assert used == set(unfree["terms"])


def test_watched_patterns_are_held_against_lower_case() -> None:
    assert all(pattern == pattern.lower() for pattern in tables.read().watched)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [("lib*.so", "lib/a/b.so", True), ("lib*.so", "lib.so.1", False), ("libav[cd]*", "libavif.so", False)],
)
def test_patterns_are_the_shells(pattern: str, text: str, matches: bool) -> None:
    assert tables.matches((pattern, "other"), text) == matches


def test_the_page_on_licences_names_every_unfree_wheel() -> None:
    page = FOLDER.parents[1] / "docs/reference/licences.md"
    if not page.exists():
        pytest.skip("the pages are not here")
    text = page.read_text()
    missing = [name for name in table("unfree")["wheels"] if not re.search(rf"`{re.escape(name)}`", text)]
    assert not missing
