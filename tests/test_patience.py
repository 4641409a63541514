"""No test's verdict depends on how fast the machine is.

Whatever waits for something has a bound of minutes: a fault reaches it, other work on the machine does not.
No test asserts that something took less than so many seconds.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: Seconds below which a bound may be reached on a busy machine.
SHORTEST = 120
#: The calls that wait, with the position of their bound.
WAITS = {"wait": 0, "join": 0, "settimeout": 0, "communicate": 1}


def number(node: ast.expr | None) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True:
        return float(node.value)
    return None


def short_waits(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each line that waits for less than SHORTEST seconds."""
    for node in verdicts(tree):
        if isinstance(node, ast.Call):
            bounds = [each.value for each in node.keywords if each.arg == "timeout"]
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in WAITS and len(node.args) > WAITS[name]:
                bounds.append(node.args[WAITS[name]])
            for bound in bounds:
                seconds = number(bound)
                if seconds is not None and 0 < seconds < SHORTEST:
                    yield node.lineno, f"waits for {seconds:g} s"


def verdicts(tree: ast.AST) -> Iterator[ast.AST]:
    """What lies below a tree, without the blocks that go on where a wait took too long."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        forgiving = isinstance(node, ast.With) and any(
            ast.unparse(item.context_expr) == "contextlib.suppress(subprocess.TimeoutExpired)"
            for item in node.items
        )
        if not forgiving:
            yield from verdicts(node)


def upper_bounds(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each assertion that a span of the clock is below a number."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        spans = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and is_span(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                low, high = (left, right) if isinstance(operator, ast.Lt | ast.LtE) else (right, left)
                small = is_span(low) or (isinstance(low, ast.Name) and low.id in spans)
                if small and number(high) is not None:
                    yield node.lineno, "asserts that something is quick"


def is_span(node: ast.expr) -> bool:
    """Whether it is `time.monotonic() - began`, by whichever clock."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and isinstance(node.left, ast.Call)
        and ast.unparse(node.left.func) in ("time.monotonic", "time.perf_counter", "time.time")
    )


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_verdict_depends_on_an_idle_machine(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [*short_waits(tree), *upper_bounds(tree)] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("process.wait(10)", "waits for 10 s"),
        ("process.communicate(timeout=2.5)", "waits for 2.5 s"),
        ("process.wait(PATIENCE)", None),
        ("assert time.monotonic() - began < 2", "asserts that something is quick"),
        ("assert 1 < time.monotonic() - began < 2", "asserts that something is quick"),
        ("took = time.monotonic() - began\n    assert 15 > took", "asserts that something is quick"),
        ("assert time.monotonic() - began > 5", None),
    ],
)
def test_a_short_bound_is_found(line: str, fault: str | None) -> None:
    tree = ast.parse(f"def test() -> None:\n    {line}\n")
    assert [what for _, what in (*short_waits(tree), *upper_bounds(tree))] == ([fault] if fault else [])
