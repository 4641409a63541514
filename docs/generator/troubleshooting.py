"""The page of symptoms, causes and remedies: doctor's findings and the refusals, read from the source."""

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

from markdown import NOTE, cell, table

import dgx_vllm

_PACKAGE = Path(dgx_vllm.__file__).parent
_AREAS = {
    "download": "Downloading", "hub": "Downloading", "checkpoints": "Checkpoints", "formats": "Checkpoints",
    "launch": "Starting a server", "vllm_flags": "Flags", "flag_help": "Flags", "profiles": "Profiles",
    "plan": "Planning", "service": "Services", "running": "Running servers", "chat": "Chat",
    "host": "The machine", "doctor": "The machine", "util": "The machine", "models": "Models on disk",
    "evaluation": "Measuring quality", "prune": "Pruning", "bench_kernels": "Benchmarks",
    "bench_decode": "Benchmarks", "commands": "The command line",
}  # fmt: skip


def page() -> str:
    """Symptoms by hand, then every finding of doctor, then every refusal."""
    lines = ["# Troubleshooting", "", NOTE, ""]
    lines += ["Start with `dgx-vllm doctor`. Search this page for a few words of a message.", ""]
    lines += ["## First aid", "", *table(("symptom", "cause", "remedy"), _first_aid())]
    lines += [
        "## What doctor finds",
        "",
        *table(("area", "looked at", "what it says", "remedy"), _findings()),
    ]
    lines += ["## Messages", "", "CAPITALS stand for names and values.", ""]
    areas: dict[str, dict[str, str]] = {}
    for area, fault, remedy in _refusals():
        areas.setdefault(area, {}).setdefault(fault, remedy)
    for area in dict.fromkeys(_AREAS.values()):
        if area in areas:
            lines += [f"### {area}", "", *table(("message", "remedy"), sorted(areas[area].items()))]
    lines += ["Variables that vLLM no longer reads are in [environment variables](environment.md).", ""]
    return "\n".join(lines).rstrip() + "\n"


def _first_aid() -> Iterator[tuple[str, str, str]]:
    path = Path(__file__).with_name("first_aid.toml")
    for row in tomllib.loads(path.read_text(encoding="utf-8"))["row"]:
        yield row["symptom"], row["cause"], row["remedy"]


def _findings() -> Iterator[tuple[str, str, str, str]]:
    """Every finding that is not fine."""
    for path in sorted((_PACKAGE / "doctor").glob("*.py")):
        module = importlib.import_module(f"dgx_vllm.doctor.{path.stem}") if path.stem != "selection" else None
        for call in _calls(path, "Finding"):
            names = ("area", "subject", "status", "value", "remedy")
            arguments = dict(zip(names, call.args, strict=False)) | {
                k.arg: k.value for k in call.keywords if k.arg
            }
            status = arguments.get("status")
            if not isinstance(status, ast.Attribute) or status.attr == "OK" or "remedy" not in arguments:
                continue
            area, subject, value, remedy = (
                _text(arguments[n], module) for n in ("area", "subject", "value", "remedy")
            )
            if _worded(value) and _worded(remedy):
                yield area.strip("_").lower(), subject, value, remedy


def _refusals() -> Iterator[tuple[str, str, str]]:
    """Every error of the package that has words of its own: area, fault, remedy."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        area = _AREAS.get(path.relative_to(_PACKAGE).parts[0])
        for call in _calls(path, "UserError") if area else ():
            fault, _, remedy = (_text(call.args[0], None) if call.args else "").partition("; ")
            if area and _worded(fault) and remedy:
                yield area, fault, remedy


def _calls(path: Path, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _text(node: ast.expr, module: object) -> str:
    """What an expression says; what is known at run time alone in capitals."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, module) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _placeholder(node.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, module) + _text(node.right, module)
    if isinstance(node, ast.IfExp):
        return _text(node.body, module)
    if isinstance(node, ast.Name) and isinstance(known := getattr(module, node.id, None), str):
        return known
    return _placeholder(node)


def _placeholder(node: ast.expr) -> str:
    """The name of what an expression looks at."""
    match node:
        case ast.Call(args=[first, *_]):
            return _placeholder(first)
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _placeholder(inner)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.strip("_").upper()
    return "VALUE"


def _worded(text: str) -> bool:
    """Whether it says something without its placeholders."""
    return len([word for word in cell(text).split() if not word.isupper()]) >= 2
