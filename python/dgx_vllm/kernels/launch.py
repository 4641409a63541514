"""Calling the library with PyTorch's tensors, on their device's current stream.

NVFP4 weights are as a checkpoint has them; block scales are float8_e4m3fn or its bytes, in the 128x4 layout
of the FP4 tensor cores (vLLM's `swizzle_blockscale`). FP8 weights are rows of float8_e4m3fn.
"""

import torch
from torch import Tensor

from dgx_vllm.kernels import library

#: Tokens that one call takes.
MOST_TOKENS = 16


def moe_decode(
    out: Tensor,
    x: Tensor,
    w13: Tensor,
    w13_scale: Tensor,
    w13_global: Tensor,
    w2: Tensor,
    w2_scale: Tensor,
    w2_global: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    expert_map: Tensor | None,
    activation: str,
) -> None:
    """A layer's routed experts for 1 to 16 tokens: their weighted sum.

    Args:
        out: bfloat16 [tokens, hidden]; every element is written.
        x: bfloat16 [tokens, hidden].
        w13: uint8 [experts, 2 * intermediate, hidden / 2], gate rows before up rows.
        w13_scale: its block scales.
        w13_global: float32 [experts].
        w2: uint8 [experts, hidden, intermediate / 2].
        w2_scale: its block scales.
        w2_global: float32 [experts].
        topk_ids: int32 [tokens, top_k]; below 0 is no expert.
        topk_weights: float32 [tokens, top_k].
        expert_map: int32, from ids to the experts that are here, below 0 for those that are not.
        activation: silu, gelu or gelu_tanh.

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: there is no library.
    """
    tokens, top_k = topk_ids.shape
    kernels = library.load()
    workspace = _workspace(kernels, x.device, tokens, top_k, w2.shape[2] * 2)
    routed = (w13, _bytes(w13_scale), w13_global, w2, _bytes(w2_scale), w2_global)
    shared_expert = (None,) * 7
    swizzled, up_first, weight_on_input, shared_gate_logit, overlap = True, False, False, False, True
    kernels.moe_decode(
        *(out, x, *routed, topk_ids, topk_weights, expert_map, *shared_expert, workspace, activation),
        *(swizzled, up_first, weight_on_input, shared_gate_logit, overlap),
    )


def linear_decode_fp8(out: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
    """A linear layer for 1 to 16 tokens: `x @ (weight * scale).T + bias`.

    Args:
        out: bfloat16 [tokens, rows]; every element is written.
        x: bfloat16 [tokens, k]; its rows may lie apart, at multiples of 16 bytes.
        weight: float8_e4m3fn [rows, k].
        scale: float32 [rows, 1], of each output.
        bias: bfloat16 [rows].

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: there is no library.
    """
    overlap = True
    library.load().linear_decode_fp8(out, x, weight, scale, bias, overlap)


def _workspace(kernels: library.Library, device: torch.device, *shape: int) -> Tensor:
    """What a layer's two kernels hand over; in a graph it is of the graph's own pool."""
    shared_intermediate = 0
    size = kernels.moe_decode_workspace(*shape, shared_intermediate)
    return torch.empty(size, dtype=torch.bfloat16, device=device)


def _bytes(scale: Tensor) -> Tensor:
    return scale.view(torch.uint8)
