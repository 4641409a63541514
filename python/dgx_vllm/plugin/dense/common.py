"""What the linear layers in FP8 and NVFP4 share."""

from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor
from vllm.model_executor.layers.linear import ColumnParallelLinear, RowParallelLinear
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from dgx_vllm.plugin import device

#: A layer that may be offered to `--dense-dtype`; vLLM's other linear layers derive from these.
Layer: TypeAlias = ColumnParallelLinear | RowParallelLinear | ParallelLMHead

_ALIGNMENT = 16


@cache
def decode_refusal() -> str | None:
    """Why our kernels take no tokens here, None if they do."""
    return device.refusal()


def aligned(tokens: Tensor) -> Tensor:
    """The same [tokens, k], with rows that the kernels can fetch 16 bytes at a time."""
    row_bytes = tokens.stride(0) * tokens.element_size()
    rows_aligned = row_bytes % _ALIGNMENT == 0 or len(tokens) == 1
    if tokens.stride(1) == 1 and rows_aligned and tokens.data_ptr() % _ALIGNMENT == 0:
        return tokens
    return tokens.clone(memory_format=torch.contiguous_format)
