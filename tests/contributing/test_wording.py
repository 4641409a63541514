"""Texts that people read hold none of the words that the style guide replaces.

Read are: the strings of the Python code and the summaries of commands, Nix and shell code, the messages
of the kernels, the data in TOML, and Markdown. Comments and docstrings are not read.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).parents[2]
TABLE = tomllib.loads(Path(__file__).with_name("wording.toml").read_text())
PATTERNS: list[dict[str, str]] = TABLE["pattern"]
EXEMPT: dict[str, str] = TABLE["exempt"]

Text = tuple[int, str]
"""A line's number, and a text that begins there."""


def documented(tree: ast.AST) -> Iterator[ast.AST]:
    """The strings that stand alone as statements, but for those that become a command's help."""
    helps = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(re.match(r"app\.(command|callback)", ast.unparse(each)) for each in node.decorator_list)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node not in helps:
            yield node.value


def python_texts(source: str) -> Iterator[Text]:
    tree = ast.parse(source)
    passed = {id(node) for node in documented(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.lineno, node.value


def uncommented(source: str, comment: str) -> Iterator[Text]:
    """The lines without their comments."""
    for number, line in enumerate(source.splitlines(), 1):
        yield number, re.sub(rf"(^|\s){comment}.*", "", line)


def quoted(source: str) -> Iterator[Text]:
    """The strings of C++, neighbours joined."""
    for found in re.finditer(r'"(?:[^"\\\n]|\\.)*"', re.sub(r"//.*", "", source)):
        yield source.count("\n", 0, found.start()) + 1, found[0]


def paragraphs(source: str) -> Iterator[Text]:
    """Markdown's paragraphs, with their lines joined; code is read as well, as it quotes messages."""
    number = 1
    for block in re.split(r"(\n\s*\n)", source):
        yield number, " ".join(block.split())
        number += block.count("\n")


def texts() -> Iterator[tuple[str, int, str]]:
    """Every text that people read: its file below the tree, its line and itself."""
    kinds: dict[str, Any] = {
        "python/dgx_vllm/**/*.py": python_texts,
        "python/dgx_vllm/**/*.toml": lambda source: uncommented(source, "#"),
        "nix/**/*.py": python_texts,
        "nix/**/*.nix": lambda source: uncommented(source, "#"),
        "nix/**/*.toml": lambda source: uncommented(source, "#"),
        "nix/**/*.sh": lambda source: uncommented(source, "#"),
        "flake.nix": lambda source: uncommented(source, "#"),
        "templates/**/*.nix": lambda source: uncommented(source, "#"),
        "kernels/**/*.cu*": quoted,
        "kernels/**/*.h": quoted,
        "*.md": paragraphs,
        "docs/**/*.md": paragraphs,
        "kernels/**/*.md": paragraphs,
    }
    for pattern, read in kinds.items():
        files = sorted(TREE.glob(pattern))
        assert files, f"{pattern} matches no file"
        for file in files:
            name = str(file.relative_to(TREE))
            for number, text in read(file.read_text()):
                yield name, number, text


def faults() -> dict[str, list[str]]:
    """What is to be rewritten, by file."""
    found: dict[str, list[str]] = {}
    for name, number, text in texts():
        for pattern in PATTERNS:
            for match in re.finditer(pattern["regex"], text, re.IGNORECASE):
                around = text[max(match.start() - 30, 0) : match.end() + 30]
                found.setdefault(name, []).append(f"{name}:{number}: {around!r}; write {pattern['instead']}")
    return found


def test_texts_for_people_hold_no_refused_words() -> None:
    found = [fault for name, listed in faults().items() if name not in EXEMPT for fault in listed]
    assert not found, "\n".join(found)


def test_every_exempted_page_still_needs_the_exemption() -> None:
    assert set(EXEMPT) <= set(faults()), "take these off the list in wording.toml"


@pytest.mark.parametrize("pattern", PATTERNS, ids=[pattern["name"] for pattern in PATTERNS])
def test_a_pattern_finds_its_example_alone(pattern: dict[str, str]) -> None:
    assert re.search(pattern["regex"], pattern["refused"], re.IGNORECASE)
    assert not re.search(pattern["regex"], pattern["allowed"], re.IGNORECASE)


def test_the_style_guide_shows_every_pattern() -> None:
    (words,) = re.findall(
        r"^## Words\n(.*)", (TREE / "docs/dev/style.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert [pattern["name"] for pattern in PATTERNS if f'"{pattern["name"]}"' not in words] == []


def test_strings_that_users_see_are_told_from_docstrings() -> None:
    source = '''
"""A module beside others."""
@app.command()
def stop():
    """Help beside others."""
    """Prose."""
    raise UserError(f"{name} is no " "number")
'''
    assert sorted(python_texts(source)) == [(5, "Help beside others."), (7, "{} is no number")]
