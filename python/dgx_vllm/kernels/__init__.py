"""The decode kernels: calls of their library, and PyTorch operators.

Nix compiles the library from `kernels/` of the source tree, and puts it next to this file if the product is
for a GPU.
"""

from dgx_vllm.kernels.library import NoLibraryError, find, load

__all__ = ["NoLibraryError", "find", "load"]
