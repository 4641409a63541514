"""The GPU that vLLM runs on, and whether the kernels are for it."""

from functools import cache
from pathlib import Path

from vllm.platforms import current_platform

from dgx_vllm import kernels
from dgx_vllm.host.compute_capability import GB10, HOPPER, dotted
from dgx_vllm.kernels import fatbin

_SUPPORTED = (GB10, HOPPER)


def capability() -> tuple[int, int] | None:
    """The compute capability, None without a CUDA device."""
    if not current_platform.is_cuda():
        return None
    reported = current_platform.get_device_capability()
    return None if reported is None else (reported.major, reported.minor)


def refusal() -> str | None:
    """Why the kernels do not run on this GPU, None if they do: it or their library is of another kind."""
    own = capability()
    if own is None or own not in _SUPPORTED:
        shown = "none" if own is None else dotted(own)
        return (
            f"its kernels are for compute capability {dotted(GB10)} ({dotted(HOPPER)} to verify), not {shown}"
        )
    try:
        return _architecture_mismatch(kernels.find(), *own)
    except kernels.NoLibraryError as error:
        return str(error)


@cache
def _architecture_mismatch(library: Path, major: int, minor: int) -> str | None:
    """Why the library has no code for a GPU of this compute capability, None if it has."""
    try:
        architectures = fatbin.architectures(library).cubins
    except (OSError, ValueError) as error:
        return f"the kernel library {library} cannot be read: {error}"
    own = f"sm_{major}{minor}a"
    if own in architectures:
        return None
    return f"the kernel library {library} is for {', '.join(sorted(architectures)) or 'no GPU'}, not {own}"
