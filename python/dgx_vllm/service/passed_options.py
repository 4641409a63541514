"""How a unit passes the launcher's own options on to serve; nix/service/serve-options.nix is the twin."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dgx_vllm.launch.settings import option_table
from dgx_vllm.launch.settings.option_table import Option
from dgx_vllm.launch.settings.options import Options


def instance_words(options: Options) -> tuple[list[str], list[str]]:
    """The words of the options that an instance has: those in front of --config, and those behind it."""
    of_instance = option_table.of("nixos")
    profile = [option for option in of_instance if option.type == "profile"]
    others = [option for option in of_instance if option.type != "profile"]
    return _words(options, profile), _words(options, others)


def other_words(options: Options) -> list[str]:
    """The words of the options that install-service has and an instance has not."""
    return _words(
        options, (option for option in option_table.of("install-service") if "nixos" not in option.also)
    )


def credentials(options: Options) -> dict[str, str]:
    """The files that systemd passes on as credentials, by the credentials' names."""
    return {
        option.name.removesuffix("-file"): str(path)
        for option in option_table.of("nixos")
        if option.type == "secret-file" and (path := getattr(options, option.field)) is not None
    }


def paths(options: Options) -> tuple[list[str], list[str]]:
    """The paths that the server itself reads: profiles, and others."""
    values = [(option.type, str(getattr(options, option.field) or "")) for option in option_table.of("nixos")]
    return (
        [text for kind, text in values if kind == "profile" and text],
        [text for kind, text in values if kind in ("file", "directory") and text],
    )


def absolute(options: Options, whole: Callable[[str], str]) -> Options:
    """The options with paths that mean the same in any directory.

    Args:
        options: as they were given.
        whole: makes a path absolute.
    """
    changes: dict[str, Any] = {}
    for option in option_table.of("nixos"):
        value = getattr(options, option.field)
        if isinstance(value, Path):
            changes[option.field] = Path(whole(str(value)))
        elif option.type == "profile" and value and value.endswith(".toml"):
            changes[option.field] = whole(value)
    return replace(options, **changes)


def _words(options: Options, passed: Iterable[Option]) -> list[str]:
    found: list[str] = []
    for option in passed:
        value = getattr(options, option.field)
        if option.type == "secret-file" or value is None or value is False:
            continue
        text = str(int(value)) if option.type == "seconds" else str(value)
        found += [option.flag] if value is True else [option.flag, text]
    return found
