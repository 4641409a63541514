"""Readers: what vLLM's own make of the variables that are set, asked without importing vLLM.

An engine evaluates every reader of vllm/envs.py when it starts, and stops where one fails.
"""

import builtins
import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

# What the module is called while it is asked.
_NAME = "dgx_vllm.launch._vllm_envs"
# What takes seconds to import; readers ask it for defaults alone.
_SLOW = ("vllm", "torch")


@dataclass(frozen=True)
class Fault:
    """A reader that fails.

    Args:
        variables: what it reads of what is set.
        wanted: what it takes instead, or vLLM's own words for it.
    """

    variables: tuple[str, ...]
    wanted: str


class _Environ(dict[str, str]):
    """An environment that notes which of its variables were asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


class _Os:
    """The module `os`, with another environment."""

    def __init__(self, environ: _Environ) -> None:
        self.environ = environ

    def getenv(self, name: str, default: Any = None) -> Any:
        return self.environ.get(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def faults(vllm: Path, environ: Mapping[str, str]) -> list[Fault]:
    """The readers that fail because of what is set.

    Args:
        vllm: where vLLM is installed.
        environ: the environment that the server is to have.
    """
    module = _loaded(vllm / "envs.py")
    by_variables: dict[tuple[str, ...], Fault] = {}
    for read in filter(callable, module.environment_variables.values()):
        variables, error = _read(module, read, environ)
        if error is None or not variables:
            continue
        without = {name: value for name, value in environ.items() if name not in variables}
        if _read(module, read, without)[1] is None:
            by_variables.setdefault(variables, Fault(variables, _wanted(error)))
    sys.modules.pop(_NAME, None)
    # A reader of several variables fails with each of theirs.
    single = {name for fault in by_variables for name in fault if len(fault) == 1}
    return [fault for names, fault in by_variables.items() if len(names) == 1 or not single & set(names)]


def _read(
    module: ModuleType, read: Callable[[], Any], environ: Mapping[str, str]
) -> tuple[tuple[str, ...], Exception | None]:
    """What a reader asks for of what is set, and how it fails."""
    seen = _Environ(environ)
    module.os = _Os(seen)  # type: ignore[attr-defined]
    failure = None
    try:
        read()
    except Exception as error:  # whatever a reader may raise
        failure = error
    return tuple(sorted(name for name in seen.asked if name in environ)), failure


def _loaded(path: Path) -> ModuleType:
    """envs.py as a module of its own, without the rest of vLLM."""
    module = ModuleType(_NAME)
    module.__file__ = str(path)
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import_quick}
    sys.modules[_NAME] = module  # one of the readers looks itself up
    # What a reader would log, the server logs.
    logging.getLogger(_NAME).disabled = True
    exec(_code(path), module.__dict__)
    return module


@functools.cache
def _code(path: Path) -> CodeType:
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def _import_quick(name: str, *rest: Any, **more: Any) -> ModuleType:
    if name.partition(".")[0] in _SLOW:
        return _Anything(name)
    return builtins.__import__(name, *rest, **more)


class _Anything(ModuleType):
    """Has every name, each of which can be called: a default that nobody looks at."""

    def __getattr__(self, name: str) -> "_Anything":
        return _Anything(name)

    def __call__(self, *_: Any, **__: Any) -> "_Anything":
        return self


def _wanted(error: Exception) -> str:
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("invalid literal for int()"):
        return "it must be a whole number, or unset"
    if isinstance(error, ValueError) and text.startswith("could not convert string to float"):
        return "it must be a number, or unset"
    if isinstance(error, ValueError) and "Valid options: " in text:
        choices = text.partition("Valid options: ")[2].strip("[].").replace("'", "")
        return f"it must be one of {choices}, or unset"
    return f"vLLM says: {text}"
