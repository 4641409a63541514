"""Compute capabilities of the GPUs that the kernels are compiled for, as (major, minor)."""

GB10 = (12, 1)
#: To verify the kernels on.
HOPPER = (9, 0)


def dotted(capability: tuple[int, int]) -> str:
    """As NVIDIA writes it, such as `12.1`."""
    return ".".join(map(str, capability))
