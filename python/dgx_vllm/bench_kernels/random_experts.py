"""Experts with random NVFP4 weights."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgx_vllm.kernels.moe_layer import ExpertWeights


def swizzle(scales: Tensor) -> Tensor:
    """Block scales into the 128x4 layout of the FP4 tensor cores.

    Args:
        scales: uint8 [experts, rows, blocks].

    Returns:
        [experts, rows rounded up to 128, blocks rounded up to 4]; padding is zero.
    """
    experts, rows, blocks = scales.shape
    padded_rows, padded_blocks = -(-rows // 128) * 128, -(-blocks // 4) * 4
    padded = scales.new_zeros(experts, padded_rows, padded_blocks)
    padded[:, :rows, :blocks] = scales
    tiles = padded.view(experts, padded_rows // 128, 4, 32, padded_blocks // 4, 4)
    return tiles.permute(0, 1, 4, 3, 2, 5).reshape(experts, padded_rows, padded_blocks)


class Experts:
    """Gate and up (w13: gate rows first), then down (w2), in a checkpoint's layout.

    Attributes:
        w13, w2: uint8 [count, 2 * intermediate, hidden / 2] and [count, hidden, intermediate / 2].
        s13, s2: uint8, E4M3 block scales, [count, rows, columns / 16].
        g13, g2: float32 [count], global scales; with them an output is about as large as its input.
        s13_swizzled, s2_swizzled: the block scales as `swizzle` makes them.
    """

    def __init__(self, count: int, hidden: int, intermediate: int, generator: torch.Generator) -> None:
        device = generator.device

        def drawn(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, shape, dtype=torch.uint8, device=device, generator=generator)

        def globals_(k: int) -> Tensor:
            return (torch.rand(count, device=device, generator=generator) + 0.5) / (6 * math.sqrt(k))

        self.count, self.hidden, self.intermediate = count, hidden, intermediate
        self.w13 = drawn(0, 256, count, 2 * intermediate, hidden // 2)
        self.s13 = drawn(0x30, 0x58, count, 2 * intermediate, hidden // 16)
        self.w2 = drawn(0, 256, count, hidden, intermediate // 2)
        self.s2 = drawn(0x30, 0x58, count, hidden, intermediate // 16)
        self.g13, self.g2 = globals_(hidden), globals_(intermediate)
        self.s13_swizzled, self.s2_swizzled = swizzle(self.s13), swizzle(self.s2)

    def weights(self, swizzled: bool) -> ExpertWeights:
        """The six tensors as moe_decode takes them."""
        s13, s2 = (self.s13_swizzled, self.s2_swizzled) if swizzled else (self.s13, self.s2)
        return ExpertWeights(self.w13, s13, self.g13, self.w2, s2, self.g2)

    @property
    def bytes_each(self) -> int:
        """What one expert's weights and block scales take."""
        return (self.w13[0].numel() + self.w2[0].numel()) * 9 // 8


@dataclass(frozen=True)
class Weights:
    """A layer's experts: routed ones and the shared one."""

    routed: Experts
    shared: Experts
