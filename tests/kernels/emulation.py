"""Kernels compiled for this machine's CPU, whose violations are exceptions."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KERNELS = Path(os.environ.get("DGX_VLLM_KERNELS", HERE.parents[1] / "kernels"))


class ViolationError(AssertionError):
    """What a kernel did that a GPU would not have borne, with the kernel, the block and the thread."""


def compiler() -> str | None:
    """The C++ compiler, None where there is none."""
    return os.environ.get("CXX") or shutil.which("g++-12") or shutil.which("g++")


class Library(ctypes.CDLL):
    """A library of functions that return a CUDA error, and of `violation`, what the last launch did wrong.

    A function that violates raises ViolationError; an error of another kind is its result.
    """

    def __getitem__(self, name: str) -> Any:
        function = super().__getitem__(name)
        if name == "violation":
            function.restype = ctypes.c_char_p
        else:
            function.errcheck = self._check
        return function

    def _check(self, error: int, *_: Any) -> int:
        violation = self.violation() if error else b""
        if violation:
            raise ViolationError(violation.decode())
        return error


def build(cxx: str, source: Path, directory: Path) -> Library:
    """The library of a source for `Library`."""
    path = directory / f"lib{source.stem}.so"
    subprocess.run(
        [cxx, "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{KERNELS / 'emulation'}", f"-I{KERNELS}",
         str(source), "-o", str(path), "-ldl"],
        check=True,
    )  # fmt: skip
    return Library(str(path))
