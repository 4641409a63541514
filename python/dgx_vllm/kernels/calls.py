"""Calling the library with PyTorch's tensors, on their device's current stream.

NVFP4 weights are as a checkpoint has them; block scales are float8_e4m3fn or its bytes, in the 128x4 layout
of the FP4 tensor cores (vLLM's `swizzle_blockscale`). FP8 weights are rows of float8_e4m3fn.
"""

from dataclasses import replace

import torch
from torch import Tensor

from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels import abi, library
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert


def moe_decode(
    out: Tensor,
    x: Tensor,
    routed: ExpertWeights,
    routing: Routing,
    shared: SharedExpert[ExpertWeights] | None,
    activation: str,
) -> None:
    """A layer of experts for 1 to 16 tokens: the weighted sum of the routed ones, and the shared one.

    Args:
        out: bfloat16 [tokens, hidden]; every element is written.
        x: bfloat16 [tokens, hidden].
        routed: the routed experts, with block scales in the 128x4 layout.
        routing: which of them each token uses.
        shared: the shared expert, in the same layout; None where the layer has none.
        activation: silu, gelu or gelu_tanh.

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: the library is missing.
    """
    kernels = library.load()
    workspace = _workspace(kernels, x.device, routing, routed, shared)
    if shared is not None:
        shared = replace(shared, weights=_with_scale_bytes(shared.weights))
    abi.moe_decode(out, x, _with_scale_bytes(routed), routing, shared, workspace, activation)(kernels)


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
        dgx_vllm.kernels.NoLibraryError: the library is missing.
    """
    abi.linear_decode_fp8(out, x, weight, scale, bias)(library.load())


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
        dgx_vllm.kernels.NoLibraryError: the library is missing.
    """
    abi.linear_decode_nvfp4(out, x, weight, _bytes(scale), global_scale, bias)(library.load())


def moe_decode_24(out: Tensor, x: Tensor, routed: ExpertTiles, routing: Routing, activation: str) -> None:
    """`moe_decode` on 2:4 weights in tiles, without a shared expert.

    Args:
        out: bfloat16 [tokens, hidden]; every element is written.
        x: bfloat16 [tokens, hidden].
        routed: the routed experts.
        routing: which of them each token uses.
        activation: silu, gelu or gelu_tanh.

    Raises:
        ValueError, TypeError: a shape, type, device, stride or alignment that the kernel does not take.
        dgx_vllm.kernels.NoLibraryError: the library is missing.
    """
    kernels = library.load()
    workspace = _workspace(kernels, x.device, routing, routed, None)
    abi.moe_decode_24(out, x, routed, routing, None, workspace, activation)(kernels)


def compress_24(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    """2:4 matrices in tiles (`dgx_vllm.formats.nvfp4.tiles`).

    Args:
        weight: uint8 [experts, rows, K / 2], packed E2M1; rows a multiple of 128, K of 256.
        scale: its block scales.
        halves: gate and up: a tile has eight rows of the upper half and eight of the lower.

    Returns:
        uint8 [experts, rows / 16, K / 256, 1792].

    Raises:
        ValueError: a group of four has more than two values other than zero; it says where and how many.
            Also as `moe_decode`.
        dgx_vllm.kernels.NoLibraryError: the library is missing.
    """
    compressed = weight.new_empty(tiles.shape(weight))
    violations = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    abi.compress_24(compressed, violations, weight, _bytes(scale), halves=halves)(library.load())
    tiles.refuse(violations)
    return compressed


def decompress_24(weight: Tensor, scale: Tensor, compressed: Tensor, halves: bool) -> None:
    """Undoes `compress_24`: writes `weight` and `scale`.

    Raises:
        ValueError, TypeError, NoLibraryError: as `moe_decode`.
    """
    abi.decompress_24(weight, _bytes(scale), compressed, halves=halves)(library.load())


def _workspace(
    kernels: library.Library,
    device: torch.device,
    routing: Routing,
    routed: ExpertWeights | ExpertTiles,
    shared: SharedExpert[ExpertWeights] | None,
) -> Tensor:
    """What a layer's two kernels hand over; in a graph it is of the graph's own pool."""
    shared_intermediate = 0 if shared is None else shared.weights.intermediate
    tokens, top_k = routing.topk_ids.shape
    size = abi.moe_decode_workspace(tokens, top_k, routed.intermediate, shared_intermediate)
    return torch.empty(size(kernels), dtype=torch.bfloat16, device=device)


def _with_scale_bytes(weights: ExpertWeights) -> ExpertWeights:
    return replace(weights, w13_scale=_bytes(weights.w13_scale), w2_scale=_bytes(weights.w2_scale))


def _bytes(tensor: Tensor) -> Tensor:
    """E4M3 as bytes, others as they are."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor
