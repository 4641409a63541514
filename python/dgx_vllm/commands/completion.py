"""Shell completion: what may stand at the cursor of a command line.

The shells ask the program itself, through Typer's protocol. Nothing here imports vLLM or torch, so that an
answer takes a fraction of a second.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import typer
from typer._click.shell_completion import CompletionItem, add_completion_class
from typer._completion_classes import BashComplete, FishComplete, ZshComplete

from dgx_vllm.util.errors import UserError

if TYPE_CHECKING:
    from dgx_vllm.vllm_flags.flags import FlagTable


class _Answers:
    """Completes `--option=VALUE` as one word, and answers nothing where the words make no sense."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        option, equals, value = incomplete.partition("=")
        joined = equals and option.startswith("-") and "--" not in args
        words, start = ([*args, option], value) if joined else (args, incomplete)
        try:
            found = super().get_completions(words, start)  # type: ignore[misc]
        except (UserError, typer.TyperException, OSError):
            return []
        prefix = f"{option}=" if joined else ""
        return [CompletionItem(f"{prefix}{item.value}", help=item.help) for item in found]


class _Bash(_Answers, BashComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """The words in front of the cursor, and the one at it; bash has cut them at each equals sign."""
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], "" if incomplete == "=" else incomplete


class _Zsh(_Answers, ZshComplete):
    pass


class _Fish(_Answers, FishComplete):
    pass


def register() -> None:
    """Puts these classes in the place of Typer's, which it registers when it makes the commands."""
    for shell, answers in {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}.items():
        add_completion_class(answers, shell)


def pass_on(
    words: Sequence[str], rest: Sequence[str], incomplete: str, own: list[CompletionItem]
) -> list[CompletionItem]:
    """What may follow in a command that takes vLLM's flags.

    Args:
        words: all words between the command and the cursor.
        rest: those of them that are not the command's own options.
        incomplete: the word at the cursor, as far as it is typed.
        own: what the command's own options are.

    Returns:
        The values of the flag in front of the cursor, or flags with their fields, or models.
    """
    from dgx_vllm.vllm_flags import flags

    table = flags.load()
    if words and words[-1] in rest and _takes_value(table, words[-1]):
        return _items(_values(table, words[-1]), incomplete)
    if incomplete.startswith("-"):
        return [*own, *_items(_names(table, incomplete), incomplete)]
    return [] if _has_model(table, rest) else _items(known_models(), incomplete)


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _names(table: "FlagTable", incomplete: str) -> Iterable[str]:
    """The flags' names; behind a dot the fields of that flag."""
    base, dot, _ = incomplete.partition(".")
    if dot:
        flag = table.get(base)
        return (f"{base}.{field}" for field in flag.fields) if flag else ()
    return (name for flag in table.flags for name in flag.names)


def _takes_value(table: "FlagTable", word: str) -> bool:
    name, equals, _ = word.partition("=")
    base, dot, _ = name.partition(".")
    flag = table.get(base) if word.startswith("-") and not equals else None
    return flag is not None and (bool(dot) or flag.arity != "none")


def _values(table: "FlagTable", word: str) -> list[str]:
    base, _, path = word.partition(".")
    flag = table.get(base)
    if flag is None or not path:
        return list(flag.choices) if flag else []
    field = next((each for each in flag.values if each.field == path.removesuffix("+")), None)
    return [*field.words, *map(str, field.numbers)] if field else []


def _has_model(table: "FlagTable", rest: Sequence[str]) -> bool:
    """Whether one of the words is not a flag and not a flag's value."""
    pairs = zip(rest, ["", *rest], strict=False)
    return any(not word.startswith("-") and not _takes_value(table, before) for word, before in pairs)


def profile_names() -> list[str]:
    from dgx_vllm.profiles import profile

    return [known.name for known in profile.builtin()]


def downloaded_models() -> list[str]:
    """The ids in this user's Hugging Face cache, without a look at their files."""
    from dgx_vllm.checkpoints import hf_cache
    from dgx_vllm.host import caches

    return hf_cache.names(caches.hub(os.environ))


def known_models() -> list[str]:
    return sorted({*profile_names(), *downloaded_models()})


def one_of(*words: str) -> Callable[[], list[str]]:
    """For an option that takes one of these."""
    return lambda: list(words)


def all_servers() -> list[str]:
    from dgx_vllm.running import servers

    return [server.name for server in servers.known(os.environ)]


def running_servers() -> list[str]:
    from dgx_vllm.running import servers

    return [server.name for server in servers.known(os.environ) if server.runs]


def help_topics(context: typer.Context) -> list[str]:
    """For `dgx-vllm help COMMAND TOPIC`."""
    if context.params.get("command") not in ("serve", "install-service"):
        return []
    from dgx_vllm.flag_help import text
    from dgx_vllm.vllm_flags import flags

    groups = [group.name for group in text.groups() if group.name]
    return ["all", "listgroup", *groups, *(flag.name for flag in flags.load().flags)]


def command_names(context: typer.Context) -> list[str]:
    return sorted(context.find_root().command.commands)  # type: ignore[attr-defined]
