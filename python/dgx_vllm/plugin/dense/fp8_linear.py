"""A linear layer on FP8 weights as one PyTorch operator: our kernel for a few tokens, vLLM's CUTLASS beyond.

Importing this registers `torch.ops.dgx_vllm.linear_fp8`, which is opaque to torch.compile: the choice by the
number of tokens lies inside of it. Both read one copy of the weights: the columns that CUTLASS wants stored
one after another are the rows that the kernel reads.
"""

import torch
from torch import Tensor
from torch.library import custom_op
from vllm import _custom_ops
from vllm.model_executor.layers.quantization.utils.w8a8_utils import cutlass_fp8_supported
from vllm.platforms import current_platform

from dgx_vllm.kernels import calls, reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.dense.common import aligned, decode_refusal


def refusal() -> str | None:
    """Why the operator does not run here at all, None if it does."""
    if current_platform.is_cpu() or (current_platform.is_cuda() and cutlass_fp8_supported()):
        return None
    return "vLLM's CUTLASS has no FP8 for this device"


def on_gpu(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ (weight * scale).T + bias`, bfloat16 [..., rows].

    Up to `MAX_TOKENS` tokens are multiplied as they are; more are quantized to E4M3 before, each with a scale
    of its own. On the CPU any number is multiplied as it is, in float32.

    Args:
        x: bfloat16 [..., k].
        weight: float8_e4m3fn [rows, k], contiguous; rows and k are multiples of 16.
        scale: float32 [rows, 1].
        bias: bfloat16 [rows].
    """
    tokens = x.reshape(-1, x.shape[-1])
    out_shape = (*x.shape[:-1], len(weight))
    if not len(tokens):
        return x.new_empty(out_shape)
    if len(tokens) <= MAX_TOKENS and decode_refusal() is None:
        out = x.new_empty(len(tokens), len(weight))
        calls.linear_decode_fp8(out, aligned(tokens), weight, scale, bias)
    else:
        codes, token_scale = _custom_ops.scaled_fp8_quant(tokens.contiguous(), use_per_token_if_dynamic=True)
        out = _custom_ops.cutlass_scaled_mm(codes, weight.t(), token_scale, scale, torch.bfloat16, bias)
    return out.view(out_shape)


linear_fp8 = custom_op("dgx_vllm::linear_fp8", on_gpu, mutates_args=(), device_types="cuda")


@linear_fp8.register_kernel("cpu")
def _(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    out = reference.linear_fp8(x.reshape(-1, x.shape[-1]), weight, scale, bias)
    return out.to(x.dtype).view(*x.shape[:-1], len(weight))


@linear_fp8.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
