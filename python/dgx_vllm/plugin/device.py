"""The GPU that vLLM runs on, and whether the kernels are for it."""

from functools import cache
from pathlib import Path

from vllm.platforms import current_platform

from dgx_vllm import kernels
from dgx_vllm.kernels import fatbin

#: GB10, and Hopper to verify on: the kernels are compiled for these.
_KERNELS = ((12, 1), (9, 0))


def capability() -> tuple[int, int] | None:
    """The compute capability, None without a CUDA device."""
    if not current_platform.is_cuda():
        return None
    found = current_platform.get_device_capability()
    return None if found is None else (found.major, found.minor)


def refusal() -> str | None:
    """Why the kernels do not run on this GPU, None if they do: it is another one, or their library is."""
    found = capability()
    if found is None or found not in _KERNELS:
        shown = "none" if found is None else f"{found[0]}.{found[1]}"
        return f"its kernels are for compute capability 12.1 (9.0 to verify), not {shown}"
    try:
        return _foreign(kernels.find(), *found)
    except kernels.NoLibraryError as error:
        return str(error)


@cache
def _foreign(library: Path, major: int, minor: int) -> str | None:
    """What a library is for, where that is not a GPU of this compute capability."""
    try:
        held = fatbin.architectures(library).cubins
    except (OSError, ValueError) as error:
        return f"the kernel library {library} cannot be read: {error}"
    if f"sm_{major}{minor}a" in held:
        return None
    return (
        f"the kernel library {library} is for {', '.join(sorted(held)) or 'no GPU'}, not sm_{major}{minor}a"
    )
