"""The decode kernels, which Nix compiles from `kernels/` of the source tree, and PyTorch operators for them.

Nix puts the library beside this file where the product has a GPU; elsewhere there is none.
"""

from dgx_vllm.kernels.library import NoLibraryError, find, load

__all__ = ["NoLibraryError", "find", "load"]
