"""Precision: bytes of one stored matrix, its scales included."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scales:
    """One number per block of a matrix.

    Args:
        rows, columns: the block; 0 means all of them.
        bits: of one scale.
        zero_bits: of its zero point, if any.
    """

    rows: int
    columns: int
    bits: int
    zero_bits: int = 0

    def bits_for(self, outputs: int, inputs: int) -> int:
        down = math.ceil(outputs / (self.rows or outputs))
        across = math.ceil(inputs / (self.columns or inputs))
        return down * across * (self.bits + self.zero_bits)


@dataclass(frozen=True)
class Precision:
    """How a matrix is stored.

    Args:
        name: as people call it.
        bits: of one element.
        scales: of blocks, channels or the whole matrix.
        constants: further bytes, once per matrix: global and activation scales.
        input_bytes: further bytes per input (GPTQ's group index).
    """

    name: str
    bits: int
    scales: Scales | None = None
    constants: int = 0
    input_bytes: int = 0

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of this shape; [outputs, inputs] where there are scales."""
        bits = math.prod(shape) * self.bits
        if self.scales:
            outputs, inputs = shape
            bits += self.scales.bits_for(outputs, inputs)
            return math.ceil(bits / 8) + self.constants + self.input_bytes * inputs
        return math.ceil(bits / 8)


PLAIN = {
    "float64": Precision("F64", 64),
    "float32": Precision("F32", 32),
    "bfloat16": Precision("BF16", 16),
    "float16": Precision("FP16", 16),
}
"""Unquantized ones by config.json's dtype."""

E4M3 = 8
E8M0 = 8
BF16 = 16
F32 = 32


def nvfp4(group: int = 16, activations: bool = True) -> Precision:
    """E2M1 with an E4M3 scale per block, a float32 one per matrix and one for activations."""
    return Precision("NVFP4", 4, Scales(1, group, E4M3), constants=8 if activations else 4)


def mxfp4() -> Precision:
    """E2M1 with an E8M0 scale per block of 32, as the OCP microscaling specification has it."""
    return Precision("MXFP4", 4, Scales(1, 32, E8M0))


def mxfp8() -> Precision:
    return Precision("MXFP8", 8, Scales(1, 32, E8M0))


def fp8(scales: Scales, activations: bool = False) -> Precision:
    """E4M3 with float scales, by matrix, channel or block."""
    return Precision("FP8", 8, scales, constants=4 if activations else 0)


def integer(bits: int, group: int, zeros: bool, scale_bits: int = BF16, indexed: bool = False) -> Precision:
    """Packed integers with a 16-bit scale per group of inputs; group -1 means one for each output."""
    scales = Scales(1, max(group, 0), scale_bits, bits if zeros else 0)
    return Precision(f"INT{bits}", bits, scales, input_bytes=4 if indexed else 0)
