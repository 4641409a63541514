"""The table of published patches: every row names tests that there are, and the page says what it says."""

import re
from pathlib import Path

import pytest
from published import HERE, PAGE, TREE, VERDICTS, page, rows

ROWS = rows()
MODULES = sorted({module for row in ROWS for module in row.get("modules", [])})


def test_no_row_is_there_twice() -> None:
    ids = [row["id"] for row in ROWS]
    assert len(ids) == len(set(ids)) == 13


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_rows_name_tests_that_there_are(row: dict) -> None:
    assert row["verdict"] in VERDICTS
    assert all(re.fullmatch(r"[\w-]+/[\w-]+#\d+", thread) for thread in row["upstream"])
    assert row["tests"]
    for test in row["tests"]:
        file, name = test.split("::")
        assert f"\ndef {name}(" in (HERE / file).read_text(), test


def test_the_page_is_made_from_the_table_and_the_headers() -> None:
    if not PAGE.parent.exists():
        pytest.skip("docs/ is not beside tests/ here")
    assert PAGE.read_text() == page(), (
        f"run python {Path(__file__).with_name('published.py').relative_to(TREE)}"
    )


@pytest.mark.parametrize("module", MODULES)
def test_what_the_cpu_build_shows_holds_for_the_cuda_wheel(gb10_site: Path, module: str) -> None:
    vllm = pytest.importorskip("vllm")
    assert (gb10_site / "vllm" / module).read_bytes() == (Path(vllm.__file__).parent / module).read_bytes()
