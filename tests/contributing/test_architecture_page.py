"""The architecture page agrees with the imports: each package is on a floor above all that it imports."""

import ast
import re
from pathlib import Path

TREE = Path(__file__).parents[2]
PACKAGE = TREE / "python/dgx_vllm"
PAGE = (TREE / "docs/dev/architecture.md").read_text()


def floors() -> dict[str, int]:
    """The table of packages: name to floor."""
    return {name: int(floor) for floor, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)}


def drawn_floors() -> dict[str, int]:
    """The picture's boxes: name to floor."""
    boxes = re.findall(r"subgraph f\d+ \[floor (\d+)\]\n(.*?)\n  end", PAGE, re.DOTALL)
    return {name: int(floor) for floor, names in boxes for name in names.split()}


def drawn_arrows() -> set[tuple[str, str]]:
    """The picture's arrows, of the first picture: importer to imported."""
    picture = PAGE.split("```mermaid", 1)[1].split("```", 1)[0]
    lines = re.findall(r"^  (\w+) --> (.+)$", picture, re.MULTILINE)
    return {(importer, name) for importer, names in lines for name in names.split(" & ")}


def package(module: str) -> str | None:
    """The first part below `dgx_vllm`; None for modules of others and for `dgx_vllm` itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dgx_vllm" and len(parts) > 1 else None


def imported(path: Path) -> set[str]:
    """What a file imports of ours, by package."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            modules.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in map(package, modules) if name and not name.startswith("__")}


def imports() -> set[tuple[str, str]]:
    """Every pair of packages of which one imports the other."""
    pairs = set()
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if importer != "__init__":
            pairs.update((importer, name) for name in imported(path) if name != importer)
    return pairs


def reachable(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    """Every package at the end of a path of arrows."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        current = waiting.pop()
        following = {end for begin, end in arrows if begin == current} - seen
        seen |= following
        waiting += following
    return seen


def test_the_table_lists_every_package() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(floors()) == packages | {"cli"}


def test_a_package_imports_only_from_lower_floors() -> None:
    floor = floors()
    assert [pair for pair in sorted(imports()) if floor[pair[0]] <= floor[pair[1]]] == []


def test_the_picture_has_the_table_s_floors() -> None:
    assert drawn_floors() == floors()


def test_the_picture_leaves_out_only_arrows_that_follow_from_others() -> None:
    pairs, arrows = imports(), drawn_arrows()
    assert arrows - pairs == set()
    assert [pair for pair in sorted(pairs) if pair[1] not in reachable(pair[0], arrows)] == []
