"""The log that we write in vLLM's processes."""

import re

from vllm.logger import init_logger

#: A name below `vllm.` inherits vLLM's handlers, which configure no other logger.
logger = init_logger("vllm.plugins.dgx_vllm")


def without_number(prefix: str) -> str:
    """A layer's name without its number, so that one message in the log serves all of a model's."""
    return re.sub(r"\.\d+\.", ".*.", prefix)
