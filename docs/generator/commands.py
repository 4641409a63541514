"""The page of commands, from the command line itself."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer.main
from markdown import NOTE, table

from dgx_vllm.cli import app


def page() -> str:
    """Every command with its usage and its options."""
    group: Any = typer.main.get_command(app)
    lines = ["# Commands", "", NOTE, ""]
    panels: dict[str, list[tuple[str, Any]]] = {}
    for name, command in group.commands.items():
        if not command.hidden:
            panels.setdefault(command.rich_help_panel or "Commands", []).append((name, command))
    for panel, commands in panels.items():
        lines += [f"**{panel}**", ""]
        lines += table(
            ("command", "what it does"),
            ((f"[`{name}`](#{name})", _summary(command)) for name, command in commands),
        )
    for commands in panels.values():
        for name, command in commands:
            lines += _command(name, command)
    return "\n".join(lines).rstrip() + "\n"


def _summary(command: Any) -> str:
    return str(command.help or "").split("\n\n")[0]


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"    dgx-vllm {name} {' '.join(command.collect_usage_pieces(context))}".rstrip()
    yield ""
    for paragraph in str(command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        metavar = parameter.metavar or (parameter.name or "").upper()
        if parameter.param_type_name == "argument":
            rows.append((f"`{metavar}`", parameter.help or ""))
            continue
        names = ", ".join(f"`{each}`" for each in parameter.opts)
        choices = _choices(parameter.type_descriptor.annotation)
        value = "" if parameter.is_flag else f" {'/'.join(choices) or metavar}"
        rows.append((f"{names}{value}", _help(parameter)))
    if rows:
        yield from table(("option", "meaning"), rows)


def _choices(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal, also of one that may be None."""
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    return next(filter(None, map(_choices, get_args(annotation))), ())


def _help(parameter: Any) -> str:
    text = str(parameter.help or "")
    if parameter.show_default and parameter.default not in (None, False, ""):
        text += f" Default: {parameter.default}."
    return text
