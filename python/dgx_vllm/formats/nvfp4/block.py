"""Block-scaled NVFP4 tensors, scaled as NVIDIA's TensorRT Model Optimizer (ModelOpt) scales weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dgx_vllm.formats.nvfp4 import e2m1

#: Consecutive elements of a row that share one E4M3 scale.
BLOCK_SIZE = 16
#: The largest finite E4M3 (OCP `e4m3fn`) value.
E4M3_MAX = 448.0


@dataclass(frozen=True)
class Nvfp4Tensor:
    """The three tensors that hold one quantized matrix, in checkpoint layout.

    Attributes:
        weight: uint8 [..., rows, columns / 2], packed E2M1 codes.
        weight_scale: float8_e4m3fn [..., rows, columns / 16], one scale a block.
        weight_scale_2: float32 scalar (or [...], one a matrix), the global scale.
    """

    weight: torch.Tensor
    weight_scale: torch.Tensor
    weight_scale_2: torch.Tensor


def global_scale(amax: torch.Tensor) -> torch.Tensor:
    """ModelOpt's per-tensor scale: it maps the largest magnitude to 6 (E2M1's) times 448 (E4M3's).

    Args:
        amax: the largest magnitude of a tensor, or of several that must share a scale; any shape and float
            dtype, element by element.

    Returns:
        float32, same shape. 1 where amax is 0, and never below the smallest normal number, so that nothing
        divides by zero.
    """
    amax = amax.to(torch.float32)
    scale = (amax / (e2m1.MAX * E4M3_MAX)).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(amax > 0, scale, torch.ones_like(amax))


#: Each block's scale, float8_e4m3fn [...]; of blocks and their global scales, float32 [..., 16] and [...].
BlockScales = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def by_largest(blocks: torch.Tensor, weight_scale_2: torch.Tensor) -> torch.Tensor:
    """ModelOpt's `BlockScales`: a block's largest magnitude becomes 6, as near as E4M3 allows."""
    ideal = blocks.abs().amax(dim=-1) / (e2m1.MAX * weight_scale_2)
    # torch's cast overflows to NaN, and a rounded global scale can put the largest block a hair above 448.
    return ideal.clamp(max=E4M3_MAX).to(torch.float8_e4m3fn)


def quantize(
    x: torch.Tensor, weight_scale_2: torch.Tensor | None = None, scales: BlockScales = by_largest
) -> Nvfp4Tensor:
    """Quantize matrices, rounding to nearest throughout.

    By `by_largest`, a block whose scale underflows E4M3 (below 2^-10 of the global scale's range) becomes
    zeros.

    Args:
        x: [..., rows, columns], columns a multiple of 16, floating-point and finite. Leading dimensions
            stack matrices, such as a layer's experts.
        weight_scale_2: float32 [...], one a matrix, to use instead of x's own (matrices that a runtime fuses,
            such as gate_proj and up_proj, must share one).
        scales: what gives each block its scale; `fit.fitted` takes longer and leaves a smaller error.

    Returns:
        The packed codes and both scales.

    Raises:
        ValueError: wrong rank, columns not a multiple of 16, or a value that is not finite.
    """
    if x.dim() < 2 or x.shape[-1] % BLOCK_SIZE:
        raise ValueError(
            f"NVFP4 needs matrices with a multiple of {BLOCK_SIZE} columns, got {tuple(x.shape)}"
        )
    if not torch.isfinite(x).all():
        raise ValueError("NVFP4 cannot hold infinities or NaN")
    x = x.to(torch.float32)
    if weight_scale_2 is None:
        weight_scale_2 = global_scale(x.abs().amax(dim=(-2, -1)))
    blocks = x.unflatten(-1, (-1, BLOCK_SIZE))
    per_block = weight_scale_2[..., None, None]
    weight_scale = scales(blocks, per_block)
    step = (weight_scale.to(torch.float32) * per_block).unsqueeze(-1)
    codes = e2m1.encode(torch.where(step > 0, blocks / step, torch.zeros_like(blocks)))
    return Nvfp4Tensor(e2m1.pack(codes.flatten(-2)), weight_scale, weight_scale_2)


def dequantize(tensor: Nvfp4Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The values that an NVFP4 tensor stands for.

    E2M1 times E4M3 is exact in float32 (and in bfloat16); the product with the global scale rounds once to
    float32, and once more to a narrower `dtype`.

    Args:
        tensor: weight [..., rows, columns / 2]; weight_scale_2 of the leading dimensions' shape, or of more
            ([..., rows] where rows come from matrices with scales of their own).
        dtype: of the result.

    Returns:
        [..., rows, columns].
    """
    values = e2m1.decode(e2m1.unpack(tensor.weight)).unflatten(-1, (-1, BLOCK_SIZE))
    values = (values * tensor.weight_scale.to(torch.float32).unsqueeze(-1)).flatten(-2)
    scale = tensor.weight_scale_2.to(torch.float32)
    return (values * scale.reshape(*scale.shape, *[1] * (values.dim() - scale.dim()))).to(dtype)


def fake_quantize(x: torch.Tensor, weight_scale_2: torch.Tensor | None = None) -> torch.Tensor:
    """Quantize and dequantize, with gradients passed straight through (for quantization-aware training).

    Args:
        x: [..., rows, columns], as `quantize` takes it.
        weight_scale_2: as `quantize` takes it.

    Returns:
        Same shape and dtype as x; the gradient with respect to x is the identity.
    """
    with torch.no_grad():
        rounded = dequantize(quantize(x, weight_scale_2), x.dtype)
    return x + (rounded - x).detach()
