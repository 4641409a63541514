"""The launches as PyTorch operators: opaque to torch.compile, safe in CUDA graphs; on the CPU, the reference.

Importing this registers `torch.ops.dgx_vllm.moe_decode`, `moe_decode_24`, `compress_24` and `decompress_24`,
which take what `launch`'s functions of these names take.
"""

from torch import Tensor
from torch.library import custom_op

from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels import calls, reference

moe_decode = custom_op("dgx_vllm::moe_decode", calls.moe_decode, mutates_args=("out",), device_types="cuda")


@moe_decode.register_kernel("cpu")
def _(out: Tensor, *arguments: Tensor | list[Tensor] | str | None) -> None:
    out.copy_(reference.moe_decode(*arguments))  # type: ignore[arg-type]


@moe_decode.register_fake
def _(out: Tensor, *arguments: Tensor | list[Tensor] | str | None) -> None:
    """It writes to `out` alone."""


moe_decode_24 = custom_op(
    "dgx_vllm::moe_decode_24", calls.moe_decode_24, mutates_args=("out",), device_types="cuda"
)


@moe_decode_24.register_kernel("cpu")
def _(out: Tensor, *arguments: Tensor | str | None) -> None:
    out.copy_(reference.moe_decode_24(*arguments))  # type: ignore[arg-type]


@moe_decode_24.register_fake
def _(out: Tensor, *arguments: Tensor | str | None) -> None:
    """It writes to `out` alone."""


compress_24 = custom_op("dgx_vllm::compress_24", calls.compress_24, mutates_args=(), device_types="cuda")


@compress_24.register_kernel("cpu")
def _(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    return reference.compress_24(weight, scale, halves)


@compress_24.register_fake
def _(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    return weight.new_empty(tiles.shape(weight))


decompress_24 = custom_op(
    "dgx_vllm::decompress_24", calls.decompress_24, mutates_args=("weight", "scale"), device_types="cuda"
)


@decompress_24.register_kernel("cpu")
def _(weight: Tensor, scale: Tensor, compressed: Tensor, halves: bool) -> None:
    for written, value in zip((weight, scale), reference.decompress_24(compressed, halves), strict=True):
        written.view(value.dtype).copy_(value)


@decompress_24.register_fake
def _(weight: Tensor, scale: Tensor, compressed: Tensor, halves: bool) -> None:
    """It writes to `weight` and `scale` alone."""
