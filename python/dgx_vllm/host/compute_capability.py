"""Compute capabilities of the GPUs that the kernels are compiled for, as (major, minor)."""

GB10 = (12, 1)
#: To verify the kernels on.
HOPPER = (9, 0)
