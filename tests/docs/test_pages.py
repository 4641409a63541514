"""The documents: their links lead somewhere, and generated pages are current."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import TREE, anchors, links, pages

import dgx_vllm


def test_generated_reference_pages_are_current() -> None:
    """`python docs/generator` makes them anew."""
    done = subprocess.run(
        [sys.executable, TREE / "docs/generator", "--check"],
        env={**os.environ, "PYTHONPATH": str(Path(dgx_vllm.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(TREE)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, queue = set(), [TREE / "README.md"]
    while queue:
        page = queue.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        queue += [(page.parent / path).resolve() for path, _ in links(page) if path]
    assert [str(page.relative_to(TREE)) for page in pages() if page not in reached] == []
