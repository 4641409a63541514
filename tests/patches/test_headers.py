"""Every patch says what it mends: a headline, its cause, the upstream thread and a test that there is."""

import re
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PATCHES = sorted((TREE / "patches").glob("*/*.patch"))


def test_there_are_patches_to_look_at() -> None:
    assert PATCHES


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.name)
def test_a_patchs_header_has_its_fields(path: Path) -> None:
    header = path.read_text().split("\n--- a/", 1)[0]
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.patch", path.name)
    assert header.splitlines()[0].strip()
    for field in ("Cause", "Upstream", "Test"):
        assert re.search(rf"^{field}: \S", header, re.MULTILINE), field
    test = re.search(r"^Test: (\S+\.py)::(\w+)", header, re.MULTILINE)
    assert test, "Test: names path/to/test.py::test_name"
    assert f"def {test[2]}(" in (TREE / test[1]).read_text()
