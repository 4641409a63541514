"""Writes what is made from options.toml: `python -m dgx_vllm.launch.settings.generate_options` in a checkout.

options.py is the class that mypy knows, docs/reference/serve-options.md the page for readers.
tests/launch/settings/test_own_options.py fails when one of them does not match the table.
"""

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path

from dgx_vllm.launch.settings import option_table
from dgx_vllm.launch.settings.option_table import Option

MODULE = Path(__file__).parent / "options.py"
PAGE = Path(__file__).parents[4] / "docs/reference/serve-options.md"
_COMMAND = "python -m dgx_vllm.launch.settings.generate_options"
_WIDTH = 110
_TYPES = {
    "flag": "bool",
    "text": "str",
    "profile": "str",
    "file": "Path",
    "directory": "Path",
    "secret-file": "Path",
    "amount": "str",
    "seconds": "float",
}


def main() -> None:
    """Writes both."""
    MODULE.write_text(module(option_table.load()), encoding="utf-8")
    PAGE.write_text(page(option_table.load()), encoding="utf-8")


def module(options: Iterable[Option]) -> str:
    """The text of options.py."""
    described = "\n".join(
        textwrap.fill(
            f"{option.field}: {option.described}",
            _WIDTH,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
        for option in options
    )
    fields = "\n".join(f"    {option.field}: {_type(option)} = {_default(option)}" for option in options)
    return f'''"""The launcher's own options of `dgx-vllm serve`.

Made from options.toml by `{_COMMAND}`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values that were given, else the defaults.

    Args:
{described}
    """

{fields}
'''


def page(options: Iterable[Option]) -> str:
    """The text of docs/reference/serve-options.md."""
    sections = "".join(_section(option) for option in options)
    return f"""# Options of serve

These options of `dgx-vllm serve` are dgx-vllm's own. Every other option is a flag of vLLM;
`dgx-vllm serve --help=all` lists those as well.

This page is made from `python/dgx_vllm/launch/settings/options.toml`:

    {_COMMAND}

{sections}"""


def _section(option: Option) -> str:
    value = f" {option.metavar or '|'.join(option.choices)}" if option.type != "flag" else ""
    places = ["`dgx-vllm install-service`"] if "install-service" in option.also else []
    places += [f"NixOS (`{camel(option.name)}`)"] if "nixos" in option.also else []
    places += [f"profiles (`{option.name}`)"] if "profile" in option.also else []
    also = f"Also an option of {_joined(places)}.\n\n" if places else ""
    return f"\n## `{option.flag}{value}`\n\n{option.described}\n\n{also}"


def camel(name: str) -> str:
    """The name of an option on NixOS."""
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _joined(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _type(option: Option) -> str:
    if option.type == "choice":
        plain = f"Literal[{', '.join(json.dumps(choice) for choice in option.choices)}]"
    else:
        plain = _TYPES[option.type]
    return plain if option.type == "flag" or option.default is not None else f"{plain} | None"


def _default(option: Option) -> str:
    return "False" if option.type == "flag" else repr(option.default)


if __name__ == "__main__":
    main()
