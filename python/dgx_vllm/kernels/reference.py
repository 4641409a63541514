"""The operators in plain PyTorch and float32, for the CPU and for tests; slow, a piece at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, tiles

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
) -> Tensor:
    """`launch.moe_decode`'s result, float32 [tokens, hidden]."""

    def matrices(expert: int) -> tuple[Tensor, Tensor]:
        return (
            weight(w13[expert], w13_scale[expert], w13_global[expert]),
            weight(w2[expert], w2_scale[expert], w2_global[expert]),
        )

    out = _sum(x, matrices, _local(topk_ids, expert_map, len(w13)), topk_weights, activation)
    if shared:
        matrix_13, matrix_2 = (
            weight(*(each[0] for each in shared[:3])),
            weight(*(each[0] for each in shared[3:])),
        )
        ones = torch.ones(len(x), 1, device=x.device)
        factor = ones if shared_gate is None else (x.float() @ shared_gate.float()).sigmoid()[:, None]
        out += _sum(x, lambda _: (matrix_13, matrix_2), torch.zeros_like(ones).long(), factor, activation)
    return out


def moe_decode_24(
    x: Tensor,
    w13: Tensor,
    w13_global: Tensor,
    w2: Tensor,
    w2_global: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    expert_map: Tensor | None,
    activation: str,
) -> Tensor:
    """`launch.moe_decode_24`'s result, float32 [tokens, hidden]."""

    def matrix(compressed: Tensor, global_scale: Tensor, *, halves: bool) -> Tensor:
        packed, scale = tiles.from_tiles(compressed[None], halves=halves)
        return dequantize(Nvfp4Tensor(packed[0], scale[0], global_scale))

    def matrices(expert: int) -> tuple[Tensor, Tensor]:
        return (
            matrix(w13[expert], w13_global[expert], halves=True),
            matrix(w2[expert], w2_global[expert], halves=False),
        )

    return _sum(x, matrices, _local(topk_ids, expert_map, len(w13)), topk_weights, activation)


def compress_24(weight: Tensor, scale: Tensor, halves: bool) -> Tensor:
    """`launch.compress_24`'s result."""
    rows, blocks = weight.shape[1], weight.shape[2] // 8
    straight = torch.stack([unswizzle(each.view(torch.uint8), rows, blocks) for each in scale])
    return tiles.to_tiles(weight, straight, halves=halves)


def decompress_24(compressed: Tensor, halves: bool) -> tuple[Tensor, Tensor]:
    """What `launch.decompress_24` writes."""
    packed, scale = tiles.from_tiles(compressed, halves=halves)
    return packed, swizzle(scale)


def _sum(
    x: Tensor,
    matrices: Callable[[int], tuple[Tensor, Tensor]],
    local: Tensor,
    topk_weights: Tensor,
    activation: str,
) -> Tensor:
    """The weighted sum of what the experts `local` [tokens, top_k] say, whose `matrices` are w13 and w2."""
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for expert in local[local >= 0].unique().tolist():
        tokens, slots = (local == expert).nonzero(as_tuple=True)
        w13, w2 = matrices(expert)
        gate, up = functional.linear(x[tokens].float(), w13).chunk(2, dim=-1)
        down = functional.linear(_GATES[activation](gate) * up, w2)
        out.index_add_(0, tokens, down * topk_weights[tokens, slots, None])
    return out


def _local(topk_ids: Tensor, expert_map: Tensor | None, experts: int) -> Tensor:
    """Which expert that is here each slot asks for, -1 for none."""
    table = torch.arange(experts, device=topk_ids.device) if expert_map is None else expert_map.long()
    known = (topk_ids >= 0) & (topk_ids < len(table))
    return torch.where(known, table[topk_ids.clamp(0, len(table) - 1).long()], -1)
