"""The GPU that vLLM runs on."""

from vllm.platforms import current_platform

#: GB10, and Hopper to verify on: the kernels are compiled for these.
_KERNELS = ((12, 1), (9, 0))


def capability() -> tuple[int, int] | None:
    """The compute capability, None without a CUDA device."""
    if not current_platform.is_cuda():
        return None
    found = current_platform.get_device_capability()
    return None if found is None else (found.major, found.minor)


def refusal() -> str | None:
    """Why the kernels are not for this GPU, None if they are."""
    found = capability()
    if found in _KERNELS:
        return None
    shown = "none" if found is None else f"{found[0]}.{found[1]}"
    return f"its kernels are for compute capability 12.1 (9.0 to verify), not {shown}"
