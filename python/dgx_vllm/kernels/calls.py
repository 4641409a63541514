"""Calling the library with PyTorch's tensors, on their device's current stream.

NVFP4 weights are as a checkpoint has them; block scales are float8_e4m3fn or its bytes, in the 128x4 layout
of the FP4 tensor cores (vLLM's `swizzle_blockscale`). FP8 weights are rows of float8_e4m3fn.
"""

import torch
from torch import Tensor

from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels import library


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
    shared: list[Tensor],
    shared_gate: Tensor | None,
    activation: str,
) -> None:
    """A layer of experts for 1 to 16 tokens: the weighted sum of the routed ones, and the shared one.

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
        shared: of the shared expert w13, its scales and global scale, and w2's, as above with one expert and
            an intermediate size of its own; nothing where the layer has none.
        shared_gate: bfloat16 [hidden], whose product with x is the logit of the shared expert's weight; None
            for the weight 1.
        activation: silu, gelu or gelu_tanh.

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: there is no library.
    """
    tokens, top_k = topk_ids.shape
    kernels = library.load()
    routed = (w13, _bytes(w13_scale), w13_global, w2, _bytes(w2_scale), w2_global)
    shared_expert = (*map(_bytes, shared), shared_gate) if shared else (None,) * 7
    shared_intermediate = shared[3].shape[2] * 2 if shared else 0
    workspace = _workspace(kernels, x.device, tokens, top_k, w2.shape[2] * 2, shared_intermediate)
    swizzled, up_first, weight_on_input, overlap = True, False, False, True
    kernels.moe_decode(
        *(out, x, *routed, topk_ids, topk_weights, expert_map, *shared_expert, workspace, activation),
        *(swizzled, up_first, weight_on_input, overlap),
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


def linear_decode_nvfp4(
    out: Tensor, x: Tensor, weight: Tensor, scale: Tensor, global_scale: Tensor, bias: Tensor | None
) -> None:
    """A linear layer for 1 to 16 tokens: `x @ weight.T + bias`.

    Args:
        out: bfloat16 [tokens, rows]; every element is written.
        x: bfloat16 [tokens, k]; its rows may lie apart, at multiples of 16 bytes.
        weight: uint8 [rows, k / 2].
        scale: its block scales.
        global_scale: float32, one value.
        bias: bfloat16 [rows].

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: there is no library.
    """
    swizzled, overlap = True, True
    library.load().linear_decode_nvfp4(out, x, weight, _bytes(scale), global_scale, bias, swizzled, overlap)


def moe_decode_24(
    out: Tensor,
    x: Tensor,
    w13: Tensor,
    w13_global: Tensor,
    w2: Tensor,
    w2_global: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    expert_map: Tensor | None,
    activation: str,
) -> None:
    """`moe_decode` on weights of 2:4 in tiles, which hold their block scales.

    Args:
        out: bfloat16 [tokens, hidden]; every element is written.
        x: bfloat16 [tokens, hidden].
        w13: uint8 [experts, 2 * intermediate / 16, hidden / 256, 1792], of gate and up (`compress_24`).
        w13_global: float32 [experts].
        w2: uint8 [experts, hidden / 16, intermediate / 256, 1792].
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
    shared_intermediate = 0
    workspace = _workspace(kernels, x.device, tokens, top_k, w2.shape[2] * tiles.COLUMNS, shared_intermediate)
    shared_expert = (None,) * 5
    weight_on_input, overlap = False, True
    kernels.moe_decode_24(
        *(out, x, w13, w13_global, w2, w2_global, topk_ids, topk_weights, expert_map, *shared_expert),
        *(workspace, activation, weight_on_input, overlap),
    )


def compress_24(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    """Matrices of 2:4 in tiles (`dgx_vllm.formats.nvfp4.tiles`).

    Args:
        weight: uint8 [experts, rows, K / 2], packed E2M1; rows a multiple of 128, K of 256.
        scale: its block scales.
        halves: gate and up: a tile has eight rows of the upper half and eight of the lower.

    Returns:
        uint8 [experts, rows / 16, K / 256, 1792].

    Raises:
        ValueError: a group of four has more than two values other than zero; it says where and how many.
            Also as `moe_decode`.
        dgx_vllm.kernels.NoLibraryError: there is no library.
    """
    out = weight.new_empty(tiles.shape(weight))
    violations = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    library.load().compress_24(out, violations, weight, _bytes(scale), halves, True)
    tiles.refuse(violations)
    return out


def decompress_24(weight: Tensor, scale: Tensor, compressed: Tensor, halves: bool) -> None:
    """Undoes `compress_24`: writes `weight` and `scale`.

    Raises:
        ValueError, TypeError, NoLibraryError: as `moe_decode`.
    """
    library.load().decompress_24(weight, _bytes(scale), compressed, halves, True)


def _workspace(kernels: library.Library, device: torch.device, *shape: int) -> Tensor:
    """What a layer's two kernels hand over; in a graph it is of the graph's own pool."""
    size = kernels.moe_decode_workspace(*shape)
    return torch.empty(size, dtype=torch.bfloat16, device=device)


def _bytes(tensor: Tensor) -> Tensor:
    """E4M3 as bytes, others as they are."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor
