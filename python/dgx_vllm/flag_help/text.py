"""The text that vLLM has for a flag: a docstring below a field of a config class, or the help of a call."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group of vLLM's flags.

    Args:
        name: vLLM's name for it, mostly that of a config class.
        place: where the class is described, `FILE:CLASS` in vLLM's package; empty where there is none.
        flags: where each flag is described, `FILE:CLASS.FIELD` or `FILE:--flag`, by its first name.
        defaults: what counts for vLLM where a flag is not given, where that is one plain value.
    """

    name: str
    place: str
    flags: dict[str, str]
    defaults: dict[str, str | int | float | bool]


@functools.cache
def groups() -> tuple[Group, ...]:
    """The groups of the vLLM version that this package is made for."""
    return msgspec.json.decode(Path(__file__).with_name("groups.json").read_bytes(), type=tuple[Group, ...])


def described(place: str, package: Path) -> str:
    """vLLM's own text.

    Args:
        place: see `Group`.
        package: the directory of the installed vLLM's package.

    Returns:
        Paragraphs, and lists with an item a line; empty where this vLLM has no text there.
    """
    file, _, name = place.partition(":")
    tree = _tree(package / file)
    if tree is None or not name:
        return ""
    if name.startswith("-"):
        return _joined(_of_call(tree, name).replace("%%", "%"))
    owner, _, field = name.partition(".")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            return _joined(_of_field(node, field) if field else (ast.get_docstring(node) or ""))
    return ""


@functools.cache
def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None


def _of_field(node: ast.ClassDef, field: str) -> str:
    for statement, text in pairwise(node.body):
        targets = (
            statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        )
        named = any(isinstance(target, ast.Name) and target.id == field for target in targets)
        if named and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            return inspect.cleandoc(str(text.value.value))
    return ""


def _of_call(tree: ast.Module, flag: str) -> str:
    """The help that `add_argument(flag, ..., help=...)` gives."""
    for node in _calls(tree):
        if any(isinstance(arg, ast.Constant) and arg.value == flag for arg in node.args):
            for keyword in node.keywords:
                if keyword.arg == "help":
                    return _constant(keyword.value, tree)
    return ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _constant(node: ast.expr, tree: ast.Module) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == node.id for target in statement.targets
            ):
                return _constant(statement.value, tree)
    return ""


def _joined(text: str) -> str:
    """Lines of one sentence are one line; items of a list and paragraphs keep theirs."""
    return re.sub(r"(?<!\n)\n(?!\n)(?!\s*([-*+]|\d+\.)\s)\s*", " ", text.strip())
