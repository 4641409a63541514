"""Output: files that a long run will write, tried before it begins."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from dgx_vllm.util.errors import UserError


def check_file(path: Path, option: str) -> None:
    """Refuses a file that could not be written.

    Args:
        path: where to write it.
        option: who names it.

    Raises:
        UserError: says why, and what to do.
    """
    if path.is_dir():
        raise UserError(f"{option}: {path} is a directory; name a file in it")
    _check_parent(path, option)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{option}: {path} cannot be written; choose another file")


def check_directory(path: Path, option: str) -> None:
    """Refuses a directory that could neither be made nor be written into, as `check_file` does."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{option}: {path} is not a directory; choose another one")
    _check_parent(path, option)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{option}: {path} is not writable; choose another directory")


def _check_parent(path: Path, option: str) -> None:
    if not path.parent.is_dir():
        raise UserError(f"{option}: there is no directory {path.parent}; create it, or write elsewhere")


def typed(arguments: Sequence[str], *written: Path | None) -> str:
    """The command as a result's head has it: where what it writes lies says nothing about the result.

    Args:
        arguments: the command's.
        written: what is shown without its directory.
    """

    def shown(word: str) -> str:
        for path in written:
            if path is not None and path.name and word.endswith(str(path)):
                return word.removesuffix(str(path)) + path.name
        return word

    return shlex.join(("dgx-vllm", *map(shown, arguments)))
