"""Writes groups.json, where vLLM documents its flags: `python -m dgx_vllm.flag_help.generate`.

It holds names and places alone; the text is read from the installed vLLM. tests/flag_help fails when it no
longer matches that vLLM.
"""

import argparse
import dataclasses
import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_CALLS = ("entrypoints/launchers/cli_args.py", "engine/arg_utils.py")


def main() -> None:
    """Prints the table to standard output."""
    # vLLM collects its help only where a command line asks for it.
    sys.argv = ["vllm", "--help"]
    sys.stdout.write(render(table(parser())))


def parser() -> argparse.ArgumentParser:
    """vLLM's own, with its help."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    made: argparse.ArgumentParser = make_arg_parser(FlexibleArgumentParser())
    return made


def render(groups: list[dict[str, Any]]) -> str:
    """One flag a line, so that a change of vLLM's version reads well as a diff."""
    parts = []
    for group in groups:
        flags = ",\n".join(
            f"      {json.dumps(name)}: {json.dumps(at)}" for name, at in group["flags"].items()
        )
        head = ", ".join(f'"{key}": {json.dumps(group[key])}' for key in ("name", "place", "defaults"))
        parts.append(f'  {{{head}, "flags": {{\n{flags}\n    }}}}')
    return "[\n" + ",\n".join(parts) + "\n]\n"


def table(made: argparse.ArgumentParser) -> list[dict[str, Any]]:
    """What `text.groups` decodes: the groups of vLLM's parser with the places of their flags' help."""
    import vllm

    package = Path(vllm.__file__).parent
    documented = list(_documented(package))
    rows = []
    for group in made._action_groups:
        flags = {
            action.option_strings[0]: _place(action, group.title or "", documented)
            for action in sorted(group._group_actions, key=lambda each: list(each.option_strings))
            if action.option_strings and action.dest != "help"
        }
        if flags:
            place = next(
                (file for file, name, _, _ in documented if name.removesuffix("Args") == group.title), ""
            )
            classes = {name for _, name, _, _ in documented}
            name = group.title if group.title in classes else f"{group.title}Args"
            rows.append(
                {
                    "name": group.title,
                    "place": f"{place}:{name}" if place else "",
                    "flags": dict(sorted(flags.items())),
                    "defaults": dict(sorted(_defaults(group._group_actions))),
                }
            )
    return rows


def _defaults(actions: Iterable[argparse.Action]) -> Iterator[tuple[str, str | int | float | bool]]:
    """What counts where a flag is not given, where that is one plain value."""
    for action in actions:
        plain = isinstance(action.default, str | int | float | bool)
        if action.option_strings and plain and action.default not in ("", argparse.SUPPRESS):
            yield action.option_strings[0], action.default


def _place(action: argparse.Action, group: str, documented: list[tuple[str, str, str, str]]) -> str:
    """`FILE:CLASS.FIELD` where a field's text is the help, else `FILE:--flag` of the call that holds it."""
    description = (action.help or "").replace("%%", "%")
    fields = [entry for entry in documented if entry[3] and description.startswith(entry[3])]
    if fields:
        file, name, field, _ = max(
            fields,
            key=lambda each: (len(each[3]), each[1] == group, each[2] == action.dest, each[1], each[2]),
        )
        return f"{file}:{name}.{field}"
    flag = action.option_strings[0]
    import vllm

    for file in _CALLS:
        if f'"{flag}"' in (Path(vllm.__file__).parent / file).read_text():
            return f"{file}:{flag}"
    raise SystemExit(f"vLLM documents {flag} nowhere")


def _documented(package: Path) -> Iterator[tuple[str, str, str, str]]:
    """Each field with a text: its file, class, name and the text."""
    import vllm.config
    from vllm.config.utils import _get_own_attr_docs

    modules = [importlib.import_module("vllm.entrypoints.launchers.cli_args")]
    modules += [
        importlib.import_module(f"vllm.config.{module.name}")
        for module in pkgutil.iter_modules(vllm.config.__path__)
    ]
    for module in modules:
        for name, each in vars(module).items():
            if (
                inspect.isclass(each)
                and each.__module__ == module.__name__
                and dataclasses.is_dataclass(each)
            ):
                docs: dict[str, str] = {}
                _get_own_attr_docs(each, docs)
                file = str(Path(inspect.getsourcefile(each) or "").relative_to(package))
                yield from ((file, name, field, text.strip()) for field, text in docs.items())


if __name__ == "__main__":
    main()
