"""Sparse NVFP4 as the decode kernels read it: codes, positions and block scales of 2:4 in tiles.

A tile is 16 rows by 256 values of K in 1792 bytes, 3.5 bits a weight. Its rows are two octets: 16 rows one
after another, or, of gate and up in one matrix, eight rows of each. Row g of an octet has 16 blocks; block
4i + t is the t-th of step i. A tile holds, in this order,

    codes      [octet 2][g 8][t 4][step 4][4]                nibbles q and q + 4: the first and the second
                                                             code of the block's group q
    positions  [g 8][q 4][step 4][octet 2][2]                four nibbles: of group q of the step's blocks
    scales     [g 8][pair of blocks 2][step 4][octet 2][2]   E4M3

with what `compressed` stores of a group; the tiles of a matrix are [rows / 16, K / 256]. The order is that
of the lanes of a warp in sparse `mma.sp` (kernels/common/sparse24_rows.cuh).
"""

import torch

from dgx_vllm.formats.nvfp4.compressed import Compressed, compress, expand
from dgx_vllm.formats.nvfp4.e2m1 import pack, unpack
from dgx_vllm.formats.nvfp4.sparsity_pattern import TWO_OF_FOUR

ROWS = 16
COLUMNS = 256
BYTES = 1792

_CODE_BYTES = 1024
_POSITION_BYTES = 512
_STEPS = 4
_MAGNITUDE = 7


def shape(weight: torch.Tensor) -> tuple[int, int, int, int]:
    """Of the tiles of a packed weight [experts, rows, K / 2]."""
    experts, rows, half = weight.shape
    return experts, rows // ROWS, 2 * half // COLUMNS, BYTES


def violations(weight: torch.Tensor) -> torch.Tensor:
    """How many groups of four have more than two values other than zero.

    Args:
        weight: uint8 [experts, rows, K / 2], packed E2M1.

    Returns:
        int32 [experts].
    """
    groups = (unpack(weight) & _MAGNITUDE != 0).unflatten(-1, (-1, 4)).sum(dim=-1)
    return (groups > 2).flatten(1).sum(dim=1).to(torch.int32)


def refuse(counted: torch.Tensor) -> None:
    """Ends where `violations` counted any.

    Args:
        counted: int32 [experts].

    Raises:
        ValueError: it names the first expert and how many groups of it are at fault.
    """
    if counted.any():
        expert = int(counted.nonzero()[0])
        raise ValueError(
            f"the weight is not 2:4: {int(counted[expert])} groups of four in expert {expert} have more than "
            f"two values other than zero ({int(counted.count_nonzero())} of {len(counted)} experts have such)"
        )


def to_tiles(weight: torch.Tensor, scale: torch.Tensor, *, halves: bool) -> torch.Tensor:
    """Compresses matrices.

    Args:
        weight: uint8 [experts, rows, K / 2], packed E2M1 of 2:4.
        scale: float8_e4m3fn [experts, rows, K / 16].
        halves: gate and up: a tile has eight rows of the upper half and eight of the lower.

    Returns:
        uint8 [experts, rows / 16, K / 256, 1792].

    Raises:
        ValueError: a group has more than two values other than zero, or the size is not of whole tiles.
    """
    rows, columns = weight.shape[1], weight.shape[2] * 2
    if rows % (2 * ROWS if halves else ROWS) or columns % COLUMNS:
        raise ValueError(f"tiles are of {ROWS} rows and {COLUMNS} columns, got {rows} and {columns}")
    refuse(violations(weight))
    stored = compress(weight, TWO_OF_FOUR)
    # [experts, rows of tiles, octet, g, tile, step, block of the step, ...]
    codes = _by_octet(unpack(stored.codes), halves).unflatten(-1, (-1, _STEPS, 4, 4, 2))
    places = _by_octet(unpack(stored.positions), halves).unflatten(-1, (-1, _STEPS, 4, 4))
    scales = _by_octet(scale.view(torch.uint8), halves).unflatten(-1, (-1, _STEPS, 2, 2))
    parts = (
        pack(codes.permute(0, 1, 4, 2, 3, 6, 5, 8, 7).flatten(-2)),
        pack(places.permute(0, 1, 4, 3, 7, 5, 2, 6)),
        scales.permute(0, 1, 4, 3, 6, 5, 2, 7),
    )
    return torch.cat([part.flatten(3) for part in parts], dim=-1)


def from_tiles(tiles: torch.Tensor, *, halves: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Undoes `to_tiles`: the packed weight and its scales, with +0 in the places that are not stored."""
    codes, places, scales = tiles.split(
        (_CODE_BYTES, _POSITION_BYTES, BYTES - _CODE_BYTES - _POSITION_BYTES), dim=-1
    )
    straight_codes = unpack(codes).unflatten(-1, (2, 8, 4, _STEPS, 2, 4)).permute(0, 1, 3, 4, 2, 6, 5, 8, 7)
    straight_places = unpack(places).unflatten(-1, (8, 4, _STEPS, 2, 4)).permute(0, 1, 6, 3, 2, 5, 7, 4)
    straight_scales = scales.unflatten(-1, (8, 2, _STEPS, 2, 2)).permute(0, 1, 6, 3, 2, 5, 4, 7)
    stored = Compressed(
        pack(_by_row(straight_codes.flatten(4), halves)), pack(_by_row(straight_places.flatten(4), halves))
    )
    scale = _by_row(straight_scales.flatten(4), halves)
    return expand(stored, TWO_OF_FOUR), scale.view(torch.float8_e4m3fn)


def _by_octet(matrix: torch.Tensor, halves: bool) -> torch.Tensor:
    """[experts, rows, n] to [experts, rows of tiles, octet, row of the octet, n]."""
    if halves:
        return matrix.unflatten(1, (2, -1, ROWS // 2)).transpose(1, 2)
    return matrix.unflatten(1, (-1, 2, ROWS // 2))


def _by_row(octets: torch.Tensor, halves: bool) -> torch.Tensor:
    return (octets.transpose(1, 2) if halves else octets).flatten(1, 3).contiguous()
