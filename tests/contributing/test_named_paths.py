"""What the contributors' pages name exists: files, folders, modules, checks, and the targets of links."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PACKAGE = TREE / "python/dgx_vllm"
PAGES = [TREE / "CONTRIBUTING.md", *sorted((TREE / "docs/dev").glob("*.md"))]
CONTRIBUTING = PAGES[0].read_text()

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))


def code(text: str) -> Iterator[str]:
    """Code spans and indented lines of code; fenced blocks are pictures and examples."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)
    yield from re.findall(r"^    (?=\S)([^#\n]+)", text, re.MULTILINE)


def named_paths(text: str) -> set[str]:
    """Paths that begin with a folder of the tree or of the package, without placeholders in capitals."""
    ours = {path.name for path in [*TREE.iterdir(), *PACKAGE.iterdir()] if path.is_dir()}
    words = {word for span in code(text) for word in re.findall(r"[\w.*{},/-]+", span)}
    paths = {word.rstrip("/.,") for word in words if word.split("/")[0] in ours and "/" in word.rstrip("/")}
    return {path for path in paths if not re.search(r"[A-Z]{4}|[*{]", path.replace("README", ""))}


def exists(path: str) -> bool:
    return any((root / path).exists() for root in (TREE, PACKAGE))


@pages
def test_named_files_and_folders_exist(page: Path) -> None:
    assert [path for path in sorted(named_paths(page.read_text())) if not exists(path)] == []


@pages
def test_named_modules_exist(page: Path) -> None:
    for module in set(re.findall(r"(?<!ops\.)\bdgx_vllm((?:\.\w+)+)", page.read_text())):
        parts = module.strip(".").split(".")
        path = PACKAGE.joinpath(*parts)
        # The last part may be a name in the module.
        candidates = [path, path.with_suffix(".py"), path.parent.with_suffix(".py")]
        assert any(candidate.exists() for candidate in candidates), f"dgx_vllm{module}"


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, target


def test_enough_paths_are_seen() -> None:
    """A pattern that sees nothing would hold everything."""
    assert len(named_paths(CONTRIBUTING)) > 20


def test_the_table_of_checks_lists_every_check() -> None:
    """The attributes of nix/checks.nix and of the files that it takes more from."""
    files = ("nix/checks.nix", "nix/checks/gb10.nix", "nix/service/checks.nix")
    pattern = r"^  ([\w-]+) = (?:described|check|pytest) \"?"
    attributes = {
        name for file in files for name in re.findall(pattern, (TREE / file).read_text(), re.MULTILINE)
    }
    table = CONTRIBUTING.split("\n## Checks", 1)[1].split("\n### ", 1)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert len(attributes) > 15
    assert attributes - listed == set()
    assert listed - attributes == set()
