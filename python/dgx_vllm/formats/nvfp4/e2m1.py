"""E2M1, the 4-bit float of the OCP Microscaling Formats specification 1.0: sign, 2 exponent, 1 mantissa bit.

The format has neither infinity nor NaN, so the conversion follows PTX's `cvt.rn.satfinite.e2m1x2.f32`:
round to nearest, ties to the even code, magnitudes beyond 6 saturate, the sign of zero is kept, and NaN of
either sign becomes +6.
"""

from itertools import pairwise

import torch

#: Magnitude of each code's low three bits; bit 3 of a code is its sign.
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: The largest finite magnitude.
MAX = MAGNITUDES[-1]

_SIGN = 8
_NAN_CODE = 7


def encode(x: torch.Tensor) -> torch.Tensor:
    """Round each element to its nearest E2M1 code.

    Args:
        x: any shape; float64, float32, bfloat16 or float16.

    Returns:
        uint8 codes 0..15, one an element, same shape.

    Raises:
        TypeError: x is not a floating-point tensor.
    """
    if not x.is_floating_point():
        raise TypeError(f"E2M1 encodes floating-point tensors, not {x.dtype}")
    # Midpoints such as 0.25 are exact in every dtype accepted, so no conversion can move a tie.
    magnitude = x.abs()
    code = torch.zeros_like(x, dtype=torch.uint8)
    for low, (a, b) in enumerate(pairwise(MAGNITUDES)):
        midpoint = (a + b) / 2
        tie_goes_up = low % 2 == 1
        code += (magnitude >= midpoint) if tie_goes_up else (magnitude > midpoint)
    code |= torch.signbit(x).to(torch.uint8) * _SIGN
    return torch.where(x.isnan(), torch.full_like(code, _NAN_CODE), code)


def nearest(x: torch.Tensor) -> torch.Tensor:
    """The values of `encode`'s codes, in fewer steps.

    Args:
        x: any shape; float32 or float64, finite.

    Returns:
        Same shape and dtype.
    """
    magnitude = x.abs()
    # Apart by a half below 2, by one below 4, then by two; where one of them is odd, its code is too.
    steps = 0.5 + 0.5 * (magnitude >= 2) + (magnitude >= 4)
    return torch.div(x, steps).round_().mul_(steps).clamp_(-MAX, MAX)


def decode(codes: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Look each code up.

    Args:
        codes: uint8, any shape, values 0..15.
        dtype: floating-point dtype of the result; every E2M1 value is exact in all of torch's.

    Returns:
        The values, same shape. Code 8 gives -0.0.

    Raises:
        IndexError: a code is above 15.
    """
    table = torch.tensor([*MAGNITUDES, *(-m for m in MAGNITUDES)], dtype=dtype, device=codes.device)
    return table[codes.to(torch.int32)]


def pack(codes: torch.Tensor) -> torch.Tensor:
    """Pack two codes a byte, the even-indexed one in the low nibble.

    Args:
        codes: uint8 [..., n], n even, values 0..15.

    Returns:
        uint8 [..., n / 2].

    Raises:
        ValueError: n is odd.
    """
    if codes.shape[-1] % 2:
        raise ValueError(f"cannot pack an odd number of E2M1 codes ({codes.shape[-1]})")
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """Undo `pack`.

    Args:
        packed: uint8 [..., n].

    Returns:
        uint8 codes [..., 2 * n], values 0..15.
    """
    return torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2)
