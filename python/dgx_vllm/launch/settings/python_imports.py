"""Imports: the user's own Python, which vLLM's flags name, and whether the server will find it."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from dgx_vllm.launch.settings import path_flags
from dgx_vllm.launch.settings.path_flags import Kind, Place
from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.util.errors import UserError

OPTION = "--python-path"
# Here by themselves; a directory that has its own would replace the server's.
_OURS = ("dgx_vllm", "torch", "transformers", "vllm")


def directory(option: Path | None) -> str | None:
    """What --python-path names, as the server's PYTHONPATH has it.

    Raises:
        UserError: it is not a directory, or would replace the server's own modules.
    """
    if option is None:
        return None
    path = option.expanduser().absolute()
    if not path.is_dir():
        raise UserError(
            f"{OPTION} {option}: there is no such directory; give the one that holds your modules"
        )
    if os.pathsep in str(path):
        raise UserError(
            f"{OPTION} {option}: Python cannot take a directory with a colon in its name; rename it"
        )
    for name in _OURS:
        if _spec(name, [str(path)]):
            raise UserError(
                f"{OPTION} {option} has a {name} of its own, which would replace the server's; "
                "give a directory that holds your modules alone"
            )
    return str(path)


def check(settings: Mapping[str, Setting], directory_given: str | None) -> None:
    """Refuses modules that the server would not find, which vLLM finds out after a while.

    Args:
        settings: what counts, by name.
        directory_given: the directory of --python-path, None where there is none.

    Raises:
        UserError: names the flag, the module and the way to give it.
    """
    importlib.invalidate_caches()
    # The server runs with -P, so that neither the current directory nor that of a script counts.
    path = [
        *([directory_given] if directory_given else []),
        *(sys.path if sys.flags.safe_path else sys.path[1:]),
    ]
    for place in path_flags.found(settings):
        module = _module(place)
        if module and module.partition(".")[0] not in _OURS and not _exists(module, path):
            _refuse(place, module, directory_given)


def _module(place: Place) -> str | None:
    """The module that a place names, None where it names none.

    Raises:
        UserError: the word is not of the form that vLLM takes.
    """
    word = place.word
    match place.kind:
        case Kind.MODULE:
            return word
        case Kind.PLUGIN:
            # vLLM looks for a module first; shorter words it passes over.
            return None if Path(word).is_file() or len(word) <= 3 else word
        case Kind.OBJECT:
            module, dot, name = word.rpartition(".")
            if dot and module and name:
                return module
            if place.setting.name == "compilation-config":
                return None  # a backend or a pass by its name
            raise UserError(f"{place.origin} must be module.name, not {word!r}")
        case Kind.TYPE:
            module, colon, name = word.partition(":")
            if not colon or not module or not name or ":" in name:
                raise UserError(f"{place.origin} must be module:name, not {word!r}")
            return module
    return None


def _exists(name: str, path: Sequence[str]) -> bool:
    """Whether there is a module of that name, told without importing its packages."""
    if name in sys.builtin_module_names:
        return True
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    where: Sequence[str] | None = path
    for length in range(1, len(parts) + 1):
        spec = _spec(".".join(parts[:length]), where) if where is not None else None
        if spec is None:
            return False
        where = spec.submodule_search_locations
    return True


def _spec(name: str, path: Sequence[str]) -> ModuleSpec | None:
    return PathFinder.find_spec(name, path)


def _refuse(place: Place, module: str, own: str | None) -> None:
    if place.kind is Kind.PLUGIN and ("/" in place.word or place.word.endswith(".py")):
        raise UserError(f"{place.origin} {place.word}: there is no such file; give one that exists")
    where = f"neither this server nor {own} has" if own else "this server does not have"
    remedy = "add it there" if own else f"give the directory that holds it with {OPTION} DIRECTORY"
    raise UserError(f"{place.origin} {place.word}: {where} the Python module {module}; {remedy}")
