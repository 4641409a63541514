"""The architecture page agrees with the contract of floors in python/pyproject.toml, and with the imports."""

import re
import tomllib
from pathlib import Path

import grimp

TREE = Path(__file__).parents[2]
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


def contract_floors() -> dict[str, int]:
    """The contract that the check `lint` holds the imports to: name to floor."""
    settings = tomllib.loads((TREE / "python/pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [contract for contract in settings["contracts"] if contract["id"] == "floors"]
    layers = reversed(contract["layers"])
    return {name: floor for floor, names in enumerate(layers) for name in names.split(" | ")}


def imports() -> set[tuple[str, str]]:
    """Every pair of packages of which one imports the other."""
    graph = grimp.build_graph("dgx_vllm", cache_dir=None)
    packages = graph.find_children("dgx_vllm")
    for name in packages:
        graph.squash_module(name)
    return {
        (importer.removeprefix("dgx_vllm."), name.removeprefix("dgx_vllm."))
        for importer in packages
        for name in graph.find_modules_directly_imported_by(importer) & packages - {importer}
    }


def test_the_table_has_the_contract_s_floors() -> None:
    assert floors() == contract_floors()


def test_the_picture_has_the_table_s_floors() -> None:
    assert drawn_floors() == floors()


def test_the_picture_leaves_out_only_arrows_that_follow_from_others() -> None:
    pairs, arrows = imports(), drawn_arrows()
    assert arrows - pairs == set()
    picture = grimp.ImportGraph()
    for importer, name in arrows:
        picture.add_import(importer=importer, imported=name)
    assert [pair for pair in sorted(pairs) if pair[1] not in picture.find_upstream_modules(pair[0])] == []
