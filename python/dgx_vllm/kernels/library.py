"""Finding the kernels' library, and loading it through TVM-FFI."""

import functools
import os
from pathlib import Path
from typing import Any

#: Names another library than the environment's own, for trying one out.
VARIABLE = "DGX_VLLM_KERNELS_LIBRARY"
_NAME = "libdgx_kernels.so"


#: A loaded library: its functions, as kernels/README.md lists them, are attributes.
Library = Any


class NoLibraryError(Exception):
    """There is no library here; the message says where it was looked for."""


def find() -> Path:
    """The library's path: the one that DGX_VLLM_KERNELS_LIBRARY names, else the one beside this file.

    Raises:
        NoLibraryError: it is not there.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else Path(__file__).with_name(_NAME)
    if not path.is_file():
        raise NoLibraryError(f"there is no kernel library {path}")
    return path


@functools.cache
def load() -> Library:
    """The library that `find` finds.

    Raises:
        NoLibraryError: it is not there.
        RuntimeError: it does not load.
    """
    path = find()
    import tvm_ffi

    return tvm_ffi.load_module(str(path))
