"""The compressed form of sparse E2M1 weights: half of the codes, and where they stood.

A row of K values is cut into groups of four runs, a run being one value (2:4) or a pair of values at an even
place (4:8-pairs). Of every group two runs are stored, the one further left first:

    codes      uint8 [rows, K / 4]    both runs' codes in their order in the row, the earlier in the low
                                      nibble: one byte a group in 2:4; two in 4:8-pairs, bytes of the
                                      uncompressed row
    positions  uint8 [rows, K / 8]    in 2:4, [rows, K / 16] in 4:8-pairs: four bits a group, the
                                      earlier in the low nibble; bits 0-1 are the place (0 to 3) of
                                      the first run, bits 2-3 that of the second

The four bits are those of sparse `mma.sp::ordered_metadata`: 0100, 1000, 1100, 1001, 1101 and 1110 occur,
and no others (PTX ISA 9.1, "Sparse matrix storage"). Block scales stay as they are, one for 16 values of K:
with them a weight takes 2 + 1 + 0.5 = 3.5 bits in 2:4, 2 + 0.5 + 0.5 = 3 in 4:8-pairs, 4.5 uncompressed.

A group with fewer than two runs other than zero stores, in this order of preference, runs that hold a -0 and
those further left: the form of a row is unique. A -0 that finds no place becomes +0.
"""

from dataclasses import dataclass

import torch

from dgx_vllm.formats.nvfp4.e2m1 import pack, unpack
from dgx_vllm.formats.nvfp4.sparsity_pattern import Pattern

_MAGNITUDE = 7
_MINUS_ZERO = 8
# More than a run of -0 can sum up to.
_OTHER_THAN_ZERO = 16


@dataclass(frozen=True)
class Compressed:
    """A matrix in compressed form, without its scales.

    Attributes:
        codes: uint8 [..., K / 4].
        positions: uint8 [..., K / 8] in 2:4, [..., K / 16] in 4:8-pairs.
    """

    codes: torch.Tensor
    positions: torch.Tensor


def compress(weight: torch.Tensor, pattern: Pattern) -> Compressed:
    """Keeps what is other than zero.

    Args:
        weight: uint8 [..., K / 2], packed E2M1 with the pattern's zeros in place; K a multiple of two groups.
        pattern: of the zeros.

    Raises:
        ValueError: a group has more than two runs other than zero, or K is not a multiple of two groups.
    """
    codes = unpack(weight)
    if codes.shape[-1] % (2 * pattern.group):
        raise ValueError(
            f"{pattern.name} is stored for multiples of {2 * pattern.group} columns, got {codes.shape[-1]}"
        )
    if not follows(weight, pattern):
        raise ValueError(f"more than two of four are other than zero: the weight is not {pattern.name}")
    preference = (codes & _MAGNITUDE != 0) * _OTHER_THAN_ZERO + (codes == _MINUS_ZERO) * 1
    mask = pattern.keep(preference)
    runs = mask[..., :: pattern.run].unflatten(-1, (-1, 4)).to(torch.uint8)
    places = torch.arange(4, dtype=torch.uint8, device=weight.device)
    second = (runs * places).amax(dim=-1)
    first = (runs * places).sum(dim=-1, dtype=torch.uint8) - second
    # Boolean indexing keeps the row's order, and every row keeps the same number.
    values = codes[mask].reshape(*codes.shape[:-1], codes.shape[-1] // 2)
    return Compressed(pack(values), pack(first | second << 2))


def expand(compressed: Compressed, pattern: Pattern) -> torch.Tensor:
    """Undoes `compress`.

    Returns:
        uint8 [..., K / 2], packed E2M1 with +0 in the places that are not stored.

    Raises:
        ValueError: positions that do not ascend, or whose shape is not that of the codes.
    """
    values = unpack(compressed.codes).unflatten(-1, (-1, 2, pattern.run))
    places = unpack(compressed.positions)
    if values.shape[:-2] != places.shape:
        raise ValueError(
            f"codes {tuple(compressed.codes.shape)} and positions {tuple(compressed.positions.shape)} "
            f"are not of one matrix in {pattern.name}"
        )
    first, second = places & 3, places >> 2
    if not (first < second).all():
        raise ValueError("positions must ascend within a group")
    index = torch.stack((first, second), dim=-1).long().unsqueeze(-1).expand_as(values)
    runs = values.new_zeros((*places.shape, 4, pattern.run)).scatter(-2, index, values)
    return pack(runs.flatten(-3))


def follows(weight: torch.Tensor, pattern: Pattern) -> bool:
    """Whether packed E2M1 [..., K / 2] has the pattern's zeros; -0 counts as zero."""
    codes = unpack(weight)
    if codes.shape[-1] % pattern.group:
        return False
    runs = (codes & _MAGNITUDE != 0).unflatten(-1, (-1, 4, pattern.run)).any(dim=-1)
    return bool((runs.sum(dim=-1) <= 2).all())
