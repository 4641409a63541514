"""NVFP4: the E2M1 element format, two-level block scales, and ModelOpt's checkpoint layout.

An NVFP4 tensor is stored as three tensors: packed E2M1 codes (4 bits per element), one FP8 E4M3 scale for
every 16 consecutive elements of a row, and one float32 scale for the whole tensor. An element's value is

    E2M1[code] * weight_scale[row, column // 16] * weight_scale_2

which is ModelOpt's convention (`weight_scale_2 = amax / (6 * 448)`): all three factors multiply.
"""

from dgx_vllm.formats.nvfp4.block import (
    BLOCK_SIZE,
    Nvfp4Tensor,
    dequantize,
    fake_quantize,
    global_scale,
    quantize,
)
from dgx_vllm.formats.nvfp4.e2m1 import decode, encode, pack, unpack
from dgx_vllm.formats.nvfp4.fit import fitted

__all__ = [
    "BLOCK_SIZE",
    "Nvfp4Tensor",
    "decode",
    "dequantize",
    "encode",
    "fake_quantize",
    "fitted",
    "global_scale",
    "pack",
    "quantize",
    "unpack",
]
