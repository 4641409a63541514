"""`serve --help=…`: the launcher's own options and vLLM's flags, one, a group of them, or all."""

import difflib
import importlib.util
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from typer.core import TyperOption

from dgx_vllm.flag_help import text
from dgx_vllm.flag_help.text import Group
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Flag

_LISTS = ("listgroup", "listgroups", "groups")
_VALUES = {
    "text": "TEXT",
    "int": "N",
    "float": "X",
    "size": "N",
    "size-or-auto": "N|auto",
    "json": "JSON",
    "json-object": "JSON",
    "json-or-text": "JSON|TEXT",
    "lora-module": "NAME=PATH|JSON",
}
_NOTES = {
    "size": "Takes 4096, 4k (4000) or 4K (4096).",
    "size-or-auto": "Takes 4096, 4k (4000), 4K (4096) or auto.",
    "json-object": "One field at a time: {flag}.FIELD VALUE, or {flag}.FIELD+ VALUE for an item of a list.",
}
# Where the launcher's default is another than vLLM's.
_OURS = {"--host": "127.0.0.1", "--port": "8888"}
_INDENT = "    "
_MOST = 100


def show(wanted: str, options: Iterable[object]) -> None:
    """Prints the help that was asked for.

    Args:
        wanted: `all`, `listgroup`, a group of vLLM's, or a flag or a part of its name.
        options: the command's own parameters.

    Raises:
        UserError: nothing is called so.
    """
    print("\n".join(lines(wanted, [option for option in options if isinstance(option, TyperOption)])))


def lines(wanted: str, own: Sequence[TyperOption]) -> list[str]:
    """What `show` prints."""
    word = wanted.lower().strip().lstrip("-").replace("_", "-").partition(".")[0]
    if word.replace("-", "") in _LISTS:
        return _listed()
    if word == "all":
        return [
            *_heading("dgx-vllm", "The launcher's own options."),
            *(line for option in own for line in _own(option)),
            *(line for group in text.groups() for line in _group(group)),
        ]
    for group in text.groups():
        if word in (group.name.lower(), group.name.lower().removesuffix("config")) and not _exact(word, own):
            return _group(group)
    return _flags(word, wanted, own)


def _flags(word: str, wanted: str, own: Sequence[TyperOption]) -> list[str]:
    """The flag of that name, else all whose names hold the word."""
    exact = _exact(word, own)
    mine = [option for option in own if word and any(word in name for name in option.opts)]
    vllms = [
        (group, flag)
        for group in text.groups()
        for name in group.flags
        if word and (flag := flags.load().get(name)) and any(word in spelling for spelling in flag.names)
    ]
    if not mine and not vllms:
        known = [name.lstrip("-") for group in text.groups() for name in group.flags]
        known += [name.lstrip("-") for option in own for name in option.opts] + [
            group.name for group in text.groups()
        ]
        close = difflib.get_close_matches(word, known, n=3)
        hint = f"did you mean --help={' or --help='.join(close)}?" if close else "see --help=listgroup"
        raise UserError(f"--help={wanted}: there is no flag or group of that name; {hint}")
    if not exact:
        return [
            *(line for option in mine for line in _own(option)),
            *(line for group, flag in vllms for line in _flag(group, flag)),
        ]
    lines = [line for option in mine if option in exact for line in _own(option)]
    lines += [line for group, flag in vllms if flag in exact for line in _flag(group, flag)]
    others = [option.opts[0] for option in mine if option not in exact]
    others += [flag.names[0] for _, flag in vllms if flag not in exact]
    return lines + ([*_wrapped(f"Similar: {', '.join(others)}", ""), ""] if others else [])


def _exact(word: str, own: Sequence[TyperOption]) -> list[object]:
    """The flags that are called so, in any of their spellings."""
    matches: list[object] = [option for option in own if word in (name.lstrip("-") for name in option.opts)]
    flag = flags.load().get(word)
    return [*matches, flag] if flag else matches


def _listed() -> list[str]:
    """The groups, with the number of flags and what vLLM says of each."""
    lines = []
    width = max(len(group.name) for group in text.groups())
    for group in text.groups():
        summary = _summary(group) or "flags without a group"
        lines += _wrapped(f"{group.name:{width}}  {len(group.flags):3}  {summary}", " " * (width + 7))
    return [
        *lines,
        "",
        "Flags of one group: dgx-vllm serve --help=GROUP. One flag: --help=NAME. All flags: --help=all.",
    ]


def _group(group: Group) -> list[str]:
    named = (flag for name in group.flags if (flag := flags.load().get(name)))
    return [*_heading(group.name, _summary(group)), *(line for flag in named for line in _flag(group, flag))]


def _heading(name: str, summary: str) -> list[str]:
    return [_bold(name), *_wrapped(summary, ""), ""]


def _own(option: TyperOption) -> list[str]:
    value = option.metavar or ("" if option.is_flag else "VALUE")
    return [_bold(f"{', '.join(option.opts)} {value}".rstrip()), *_wrapped(option.help or "", _INDENT), ""]


def _flag(group: Group, flag: Flag) -> list[str]:
    """One of vLLM's: its spellings, its text, its values and its default."""
    name = flag.names[0]
    description = text.described(group.flags.get(name, ""), _package()).splitlines()
    lines = [_bold(f"{', '.join(flag.names)} {_value(flag)}".rstrip())]
    lines += [line for paragraph in description for line in _wrapped(paragraph, _INDENT)]
    if flag.choices:
        lines += _wrapped(f"One of: {', '.join(flag.choices)}", _INDENT)
    if flag.fields:
        lines += _wrapped(f"Fields: {', '.join(flag.fields)}", _INDENT)
    if flag.kind in _NOTES:
        lines += _wrapped(_NOTES[flag.kind].format(flag=name), _INDENT)
    if name in _OURS:
        lines += _wrapped(f"Default here: {_OURS[name]}", _INDENT)
    elif name in group.defaults:
        default = group.defaults[name]
        shown = ("on" if default else "off") if isinstance(default, bool) else default
        lines += _wrapped(f"vLLM's default: {shown}", _INDENT)
    return [*lines, ""]


def _value(flag: Flag) -> str:
    if flag.arity == "none":
        return ""
    value = "NAME" if flag.choices else _VALUES.get(flag.kind, "VALUE")
    return {"optional": f"[{value}]", "many": f"{value} ...", "repeat": f"{value} (repeat it)"}.get(
        flag.arity, value
    )


def _summary(group: Group) -> str:
    return text.described(group.place, _package()).partition("\n")[0]


def _package() -> Path:
    """The installed vLLM's; help on it is shown without its text where there is none."""
    spec = importlib.util.find_spec("vllm")
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent")


def _wrapped(line: str, indent: str) -> list[str]:
    width = min(shutil.get_terminal_size().columns, _MOST)
    return textwrap.wrap(
        line,
        width,
        initial_indent=indent if indent == _INDENT else "",
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _bold(line: str) -> str:
    return f"\x1b[1m{line}\x1b[0m" if sys.stdout.isatty() else line
