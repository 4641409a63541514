"""The launch as a PyTorch operator: opaque to torch.compile, safe in CUDA graphs; on the CPU, the reference.

Importing this registers `torch.ops.dgx_vllm.moe_decode`, which takes what `launch.moe_decode` takes: it
writes to its first argument and returns nothing.
"""

from torch import Tensor
from torch.library import custom_op

from dgx_vllm.kernels import launch, reference

moe_decode = custom_op("dgx_vllm::moe_decode", launch.moe_decode, mutates_args=("out",), device_types="cuda")


@moe_decode.register_kernel("cpu")
def _(out: Tensor, *arguments: Tensor | str | None) -> None:
    out.copy_(reference.moe_decode(*arguments))  # type: ignore[arg-type]


@moe_decode.register_fake
def _(out: Tensor, *arguments: Tensor | str | None) -> None:
    """It writes to `out` alone."""
