"""The operators in plain PyTorch and float32, for the CPU and for tests; slow, a piece at a time."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, tiles
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert

_GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


#: Values of a weight that are expanded to float32 at a time.
_CHUNK = 1 << 22


def linear_fp8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ (weight * scale).T + bias`, float32 [tokens, rows], with x [tokens, k].

    Args:
        x: of any type.
        weight: float8_e4m3fn [rows, k].
        scale: float32 [rows, 1].
        bias: [rows], of any type.
    """
    rows, k = weight.shape
    out = torch.empty(len(x), rows, dtype=torch.float32, device=x.device)
    step = max(1, _CHUNK // k)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        out[:, part] = functional.linear(x.float(), weight[part].float() * scale[part])
    return out if bias is None else out + bias.float()


def linear_nvfp4(
    x: Tensor, packed: Tensor, scale: Tensor, global_scale: Tensor, bias: Tensor | None
) -> Tensor:
    """`x @ weight.T + bias`, float32 [tokens, rows], with x [tokens, k].

    Args:
        x: of any type.
        packed: uint8 [rows, k / 2].
        scale: its block scales, swizzled.
        global_scale: float32, one value.
        bias: [rows], of any type.
    """
    out = functional.linear(x.float(), weight(packed, scale, global_scale))
    return out if bias is None else out + bias.float()


def unswizzle(scale: Tensor, rows: int, blocks: int) -> Tensor:
    """Block scales out of the 128x4 layout of the FP4 tensor cores.

    Args:
        scale: float8_e4m3fn [padded rows, padded blocks], tiles of 128 by 4 one after another. A tile has 32
            groups of 16 scales; group i holds 4 scales each of its rows i, i + 32, i + 64 and i + 96.
        rows: of the weight.
        blocks: of 16 values in a row.

    Returns:
        [rows, blocks].
    """
    padded_rows, padded_blocks = scale.shape
    tiles = scale.view(torch.uint8).reshape(padded_rows // 128, padded_blocks // 4, 32, 4, 4)
    straight = tiles.permute(0, 3, 2, 1, 4).reshape(padded_rows, padded_blocks)
    return straight[:rows, :blocks].contiguous().view(torch.float8_e4m3fn)


def swizzle(scale: Tensor) -> Tensor:
    """Undoes `unswizzle` for [experts, rows, blocks] whose rows are a multiple of 128 and blocks of 4."""
    experts, rows, blocks = scale.shape
    straight = scale.view(torch.uint8).reshape(experts, rows // 128, 4, 32, blocks // 4, 4)
    return straight.permute(0, 1, 4, 3, 2, 5).reshape(scale.shape).view(torch.float8_e4m3fn)


def weight(packed: Tensor, scale: Tensor, global_scale: Tensor) -> Tensor:
    """The float32 matrix [rows, columns] of one NVFP4 weight with swizzled scales."""
    rows, blocks = packed.shape[0], packed.shape[1] // 8
    return dequantize(Nvfp4Tensor(packed, unswizzle(scale, rows, blocks), global_scale))


def moe_decode(
    x: Tensor,
    routed: ExpertWeights,
    routing: Routing,
    shared: SharedExpert[ExpertWeights] | None,
    activation: str,
) -> Tensor:
    """`calls.moe_decode`'s result, float32 [tokens, hidden]."""

    def matrices(experts: ExpertWeights, index: int) -> tuple[Tensor, Tensor]:
        return (
            weight(experts.w13[index], experts.w13_scale[index], experts.w13_global[index]),
            weight(experts.w2[index], experts.w2_scale[index], experts.w2_global[index]),
        )

    local = _local(routing, len(routed.w13))
    out = _sum(x, partial(matrices, routed), local, routing.topk_weights, activation)
    if shared is not None:
        ones = torch.ones(len(x), 1, device=x.device)
        factor = ones if shared.gate is None else (x.float() @ shared.gate.float()).sigmoid()[:, None]
        only = torch.zeros_like(ones).long()
        out += _sum(x, partial(matrices, shared.weights), only, factor, activation)
    return out


def moe_decode_24(x: Tensor, routed: ExpertTiles, routing: Routing, activation: str) -> Tensor:
    """`calls.moe_decode_24`'s result, float32 [tokens, hidden]."""

    def matrix(compressed: Tensor, global_scale: Tensor, *, halves: bool) -> Tensor:
        packed, scale = tiles.from_tiles(compressed[None], halves=halves)
        return dequantize(Nvfp4Tensor(packed[0], scale[0], global_scale))

    def matrices(index: int) -> tuple[Tensor, Tensor]:
        return (
            matrix(routed.w13[index], routed.w13_global[index], halves=True),
            matrix(routed.w2[index], routed.w2_global[index], halves=False),
        )

    return _sum(x, matrices, _local(routing, len(routed.w13)), routing.topk_weights, activation)


def compress_24(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    """`calls.compress_24`'s result."""
    rows, blocks = weight.shape[1], weight.shape[2] // 8
    straight = torch.stack([unswizzle(matrix.view(torch.uint8), rows, blocks) for matrix in scale])
    return tiles.to_tiles(weight, straight, halves=halves)


def decompress_24(compressed: Tensor, halves: bool) -> tuple[Tensor, Tensor]:
    """What `calls.decompress_24` writes."""
    packed, scale = tiles.from_tiles(compressed, halves=halves)
    return packed, swizzle(scale)


def _sum(
    x: Tensor,
    matrices: Callable[[int], tuple[Tensor, Tensor]],
    local: Tensor,
    topk_weights: Tensor,
    activation: str,
) -> Tensor:
    """The weighted sum of the results of the experts `local` [tokens, top_k], below 0 for none.

    Args:
        x: [tokens, hidden].
        matrices: w13 and w2 of an expert by its index.
        local: indices.
        topk_weights: [tokens, top_k].
        activation: silu, gelu or gelu_tanh.
    """
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert in local[local >= 0].unique().tolist():
        tokens, slots = (local == expert).nonzero(as_tuple=True)
        w13, w2 = matrices(expert)
        gate, up = functional.linear(x[tokens].float(), w13).chunk(2, dim=-1)
        down = functional.linear(_GATES[activation](gate) * up, w2)
        out.index_add_(0, tokens, down * topk_weights[tokens, slots, None])
    return out


def _local(routing: Routing, experts: int) -> Tensor:
    """Which of this rank's experts each slot asks for, -1 for none."""
    ids, mapped = routing.topk_ids, routing.expert_map
    table = torch.arange(experts, device=ids.device) if mapped is None else mapped.long()
    known = (ids >= 0) & (ids < len(table))
    return torch.where(known, table[ids.clamp(0, len(table) - 1).long()], -1)
