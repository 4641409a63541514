"""The log that we write in vLLM's processes."""

from vllm.logger import init_logger

#: A name below `vllm.` inherits vLLM's handlers, which configure no other logger.
logger = init_logger("vllm.plugins.dgx_vllm")


def beyond(slices: bool) -> str:
    """What serves calls of more tokens than a kernel takes."""
    return "and beyond in slices, which is slow" if slices else "vLLM's CUTLASS beyond"
