"""Kernels compiled for this machine's CPU, whose violations are exceptions."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KERNELS = Path(os.environ.get("DGX_VLLM_KERNELS", HERE.parents[1] / "kernels"))
#: The functions of emulated.cpp that launch.
LAUNCHING = ("moe_decode", "compress_24", "decompress_24", "quantize_nvfp4", "linear_decode")


class ViolationError(AssertionError):
    """What a kernel did that a GPU would not have borne, with the kernel, the block and the thread."""


def compiler() -> str | None:
    """The C++ compiler, None where there is none."""
    return os.environ.get("CXX") or shutil.which("g++-12") or shutil.which("g++")


def build(cxx: str, source: Path, directory: Path, launching: tuple[str, ...]) -> ctypes.CDLL:
    """The library of a source that has `violation` and, among others, the functions that launch.

    Those raise ViolationError; an error of another kind is their result.
    """
    path = directory / f"lib{source.stem}.so"
    subprocess.run(
        [cxx, "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{KERNELS / 'emulation'}", f"-I{KERNELS}",
         str(source), "-o", str(path), "-ldl"],
        check=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(path))
    library.violation.restype = ctypes.c_char_p

    def check(error: int, *_: Any) -> int:
        said = library.violation()
        if error and said:
            raise ViolationError(said.decode())
        return error

    for name in launching:
        getattr(library, name).errcheck = check
    return library
