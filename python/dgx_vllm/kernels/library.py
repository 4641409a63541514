"""Finding the kernels' libraries, and loading them through TVM-FFI."""

import functools
import os
from pathlib import Path
from typing import Any, Literal

#: Names another library than the environment's own, for trying one out; with _BOUNDS behind, the other.
VARIABLE = "DGX_VLLM_KERNELS_LIBRARY"

#: A loaded library: its functions, as kernels/README.md lists them, are attributes.
Library = Any

#: `kernels` computes; `bounds` reads the same bytes and computes nothing, for benchmarks.
Name = Literal["kernels", "bounds"]


class NoLibraryError(Exception):
    """The library is missing; the message says where it was looked for."""


def find(name: Name = "kernels") -> Path:
    """The library's path: the one that its variable names, else the one next to this file.

    Raises:
        NoLibraryError: it is not there.
    """
    named = os.environ.get(VARIABLE if name == "kernels" else f"{VARIABLE}_{name.upper()}")
    path = Path(named) if named else Path(__file__).with_name(f"libdgx_{name}.so")
    if not path.is_file():
        raise NoLibraryError(f"there is no kernel library {path}")
    return path


@functools.cache
def load(name: Name = "kernels") -> Library:
    """The library that `find` finds.

    Raises:
        NoLibraryError: it is not there.
        RuntimeError: it does not load.
    """
    path = find(name)
    import tvm_ffi

    return tvm_ffi.load_module(str(path))
