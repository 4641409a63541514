"""A linear layer on NVFP4 weights as one PyTorch operator: our kernel for a few tokens, CUTLASS beyond.

Importing this registers `torch.ops.dgx_vllm.linear_nvfp4`, which is opaque to torch.compile: the choice by
the number of tokens lies inside of it. Both read one copy of the weights, in the layout that CUTLASS wants.
"""

import torch
from torch import Tensor
from torch.library import custom_op
from vllm import _custom_ops
from vllm.model_executor.layers.quantization.utils.nvfp4_utils import cutlass_fp4_supported
from vllm.platforms import current_platform

from dgx_vllm.host.compute_capability import HOPPER
from dgx_vllm.kernels import calls, reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin import device
from dgx_vllm.plugin.dense.common import aligned, decode_refusal

#: What the largest activation becomes by a dynamic scale: the largest E2M1 times the largest E4M3.
_LARGEST = 6.0 * 448.0
_MAX_SCALE = torch.finfo(torch.float32).max


def refusal() -> str | None:
    """Why the operator does not run here, None if it does."""
    if current_platform.is_cpu():
        return None
    reason = decode_refusal()
    if reason is None and not slices() and not cutlass_fp4_supported():
        return "vLLM's CUTLASS has no FP4 for this device"
    return reason


def slices() -> bool:
    """Whether our kernel takes any number of tokens, 16 at a time: on Hopper, to verify it inside of vLLM."""
    return device.capability() == HOPPER


def on_gpu(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_global: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
) -> Tensor:
    """`x @ weight.T + bias`, bfloat16 [..., rows].

    Up to `MAX_TOKENS` tokens are multiplied as they are; more are quantized to NVFP4 before. On the CPU any
    number is multiplied as it is, in float32.

    Args:
        x: bfloat16 [..., k].
        weight: uint8 [rows, k / 2], packed E2M1; rows and k are multiples of 64.
        weight_scale: float8_e4m3fn, of blocks of 16 in the 128x4 layout.
        weight_global: float32 scalar.
        bias: bfloat16 [rows].
        input_scale: float32 scalar that quantizing multiplies activations by, from calibration; None for one
            of each call, by its largest activation of tokens that are finite.
    """
    tokens = x.reshape(-1, x.shape[-1])
    out_shape = (*x.shape[:-1], len(weight))
    if not len(tokens):
        return x.new_empty(out_shape)
    if len(tokens) <= MAX_TOKENS or slices():
        tokens, out = aligned(tokens), x.new_empty(len(tokens), len(weight))
        for start in range(0, len(tokens), MAX_TOKENS):
            part = slice(start, start + MAX_TOKENS)
            calls.linear_decode_nvfp4(out[part], tokens[part], weight, weight_scale, weight_global, bias)
        return out.view(out_shape)
    scale = _dynamic(tokens) if input_scale is None else input_scale
    codes, block_scale = _custom_ops.scaled_fp4_quant(tokens.contiguous(), scale, True, "cutlass")
    matrices = codes, weight, block_scale, weight_scale
    out = _custom_ops.cutlass_scaled_fp4_mm(*matrices, weight_global / scale, torch.bfloat16)
    return (out if bias is None else out + bias).view(out_shape)


linear_nvfp4 = custom_op("dgx_vllm::linear_nvfp4", on_gpu, mutates_args=(), device_types="cuda")


@linear_nvfp4.register_kernel("cpu")
def _(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_global: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
) -> Tensor:
    out = reference.linear_nvfp4(x.reshape(-1, x.shape[-1]), weight, weight_scale, weight_global, bias)
    return out.to(x.dtype).view(*x.shape[:-1], len(weight))


@linear_nvfp4.register_fake
def _(x: Tensor, weight: Tensor, *_: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


def _dynamic(tokens: Tensor) -> Tensor:
    """By the largest activation, on the device; finite where all are zero.

    A token that is not finite does not count: with a scale of 0 or NaN it would spoil all others of its call.
    """
    largest = tokens.abs().amax(dim=1).float().nan_to_num(nan=0.0, posinf=0.0)
    return (_LARGEST / largest.amax()).clamp(max=_MAX_SCALE)
