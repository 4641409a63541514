"""The calls as PyTorch operators: opaque to torch.compile, safe in CUDA graphs; on the CPU, the reference.

Importing this registers `torch.ops.dgx_vllm.moe_decode`, `moe_decode_24`, `compress_24` and `decompress_24`.
An operator of PyTorch takes a flat list of tensors. So functions of this module are before the first two, and
take what `calls`'s functions of these names take.
"""

from typing import Any

from torch import Tensor
from torch.library import custom_op

from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels import calls, reference
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert


def moe_decode(
    out: Tensor,
    x: Tensor,
    routed: ExpertWeights,
    routing: Routing,
    shared: SharedExpert[ExpertWeights] | None,
    activation: str,
) -> None:
    """`calls.moe_decode` by its operator."""
    shared_tensors = [] if shared is None else list(shared.weights.tensors)
    shared_gate = None if shared is None else shared.gate
    _moe_decode(out, x, *routed.tensors, *routing.tensors, shared_tensors, shared_gate, activation)


def _grouped(
    *tensors: Any,
) -> tuple[ExpertWeights, Routing, SharedExpert[ExpertWeights] | None]:
    """What `moe_decode` makes a flat list of, out of that list."""
    *routed, topk_ids, topk_weights, expert_map, shared, shared_gate = tensors
    return (
        ExpertWeights(*routed),
        Routing(topk_ids, topk_weights, expert_map),
        SharedExpert(ExpertWeights(*shared), shared_gate) if shared else None,
    )


@custom_op("dgx_vllm::moe_decode", mutates_args=("out",), device_types="cuda")
def _moe_decode(
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
    weights = w13, w13_scale, w13_global, w2, w2_scale, w2_global
    routing = topk_ids, topk_weights, expert_map
    calls.moe_decode(out, x, *_grouped(*weights, *routing, shared, shared_gate), activation)


@_moe_decode.register_kernel("cpu")
def _(out: Tensor, x: Tensor, *arguments: Any) -> None:
    *tensors, activation = arguments
    out.copy_(reference.moe_decode(x, *_grouped(*tensors), activation))


@_moe_decode.register_fake
def _(out: Tensor, *arguments: Tensor | list[Tensor] | str | None) -> None:
    """It writes to `out` alone."""


def moe_decode_24(out: Tensor, x: Tensor, routed: ExpertTiles, routing: Routing, activation: str) -> None:
    """`calls.moe_decode_24` by its operator."""
    _moe_decode_24(out, x, *routed.tensors, *routing.tensors, activation)


@custom_op("dgx_vllm::moe_decode_24", mutates_args=("out",), device_types="cuda")
def _moe_decode_24(
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
    tiled = ExpertTiles(w13, w13_global, w2, w2_global)
    calls.moe_decode_24(out, x, tiled, Routing(topk_ids, topk_weights, expert_map), activation)


@_moe_decode_24.register_kernel("cpu")
def _(out: Tensor, x: Tensor, *arguments: Any) -> None:
    *tensors, activation = arguments
    routed, routing = ExpertTiles(*tensors[:4]), Routing(*tensors[4:])
    out.copy_(reference.moe_decode_24(x, routed, routing, activation))


@_moe_decode_24.register_fake
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
