"""Rounding: what a matrix becomes in a narrower format, seen from float32.

FP8 is E4M3 with one float32 scale for each output channel, fitted (`fp8`) or by the largest magnitude, and
NVFP4 is with block scales of either kind.
"""

from collections.abc import Callable, Iterator

import torch

from dgx_vllm.formats import fp8
from dgx_vllm.formats.nvfp4 import dequantize, fitted, global_scale, quantize
from dgx_vllm.formats.nvfp4.block import BlockScales, by_largest

E4M3_MAX = 448.0


def absmax_scale(weight: torch.Tensor) -> torch.Tensor:
    """The scale that maps each row's largest magnitude to E4M3's, as vLLM's online quantization has it.

    Args:
        weight: [..., rows, columns], any float dtype, finite.

    Returns:
        float32 [..., rows, 1], above 0.
    """
    amax = weight.abs().amax(dim=-1, keepdim=True).to(torch.float32)
    return torch.where(amax > 0, amax / E4M3_MAX, torch.ones_like(amax)).clamp(min=1e-30)


def rounded(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What a matrix becomes: to the nearest E4M3 of each row's scale, and back; values beyond are clipped.

    Args:
        weight: [..., rows, columns], any float dtype, finite.
        scale: float32 [..., rows, 1].

    Returns:
        float32, the shape of weight.
    """
    # torch's cast overflows to NaN.
    codes = (weight.to(torch.float32) / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
    return codes.to(torch.float32) * scale


#: Of a whole matrix, given by its rows chunk after chunk, to a function for each chunk.
Rounding = Callable[[Iterator[torch.Tensor]], Callable[[torch.Tensor], torch.Tensor]]


def fp8_absmax(_: Iterator[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """E4M3 with each row's scale by its largest magnitude."""
    return lambda rows: rounded(rows, absmax_scale(rows))


def fp8_fitted(_: Iterator[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """E4M3 with each row's scale fitted, as `--dense-dtype fp8` has it."""
    return lambda rows: fp8.dequantize(fp8.quantize(rows))


def nvfp4(chunks: Iterator[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """NVFP4 as ModelOpt quantizes weights; the global scale is the matrix's own."""
    return _nvfp4(chunks, by_largest)


def nvfp4_fitted(chunks: Iterator[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """NVFP4 with each block's scale fitted, as `--dense-dtype nvfp4` has it."""
    return _nvfp4(chunks, fitted)


def _nvfp4(chunks: Iterator[torch.Tensor], scales: BlockScales) -> Callable[[torch.Tensor], torch.Tensor]:
    amax = torch.stack([chunk.abs().amax() for chunk in chunks]).amax()
    scale = global_scale(amax)
    return lambda rows: dequantize(quantize(rows, scale, scales))
