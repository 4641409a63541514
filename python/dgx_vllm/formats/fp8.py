"""FP8: E4M3 weights with a float32 scale for each output channel, fitted to the channel.

An element's value is `E4M3[code] * scale[row]`. A channel's largest magnitude becomes one of the eight E4M3
values from 240 to 448, whichever leaves the channel the least squared error: it is then exact itself, and the
others fall on another phase of the octave's eight steps. Clipping it, as is done for integers, gains nothing,
since E4M3 has as many steps in every octave.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: What a channel's largest magnitude may become.
_PEAKS = (448.0, 416.0, 384.0, 352.0, 320.0, 288.0, 256.0, 240.0)
#: Values that are fitted at a time, and the most bytes that one takes meanwhile.
_CHUNK = 1 << 21
_CHUNK_BYTES = 24


@dataclass(frozen=True)
class Fp8Tensor:
    """A quantized weight.

    Args:
        weight: float8_e4m3fn [rows, columns].
        scale: float32 [rows, 1]; not finite where a row was not.
    """

    weight: Tensor
    scale: Tensor


def quantize(weight: Tensor) -> Fp8Tensor:
    """Quantizes [rows, columns], some rows at a time; takes `room(weight)` bytes."""
    rows, columns = weight.shape
    codes = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=weight.device)
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        values = weight[part].float()
        scale[part] = _fit(values)
        codes[part] = (values / scale[part]).to(torch.float8_e4m3fn)
    return Fp8Tensor(codes, scale)


def room(weight: Tensor) -> int:
    """Bytes that `quantize` needs in addition to the weight: its result, and what it works on."""
    rows, columns = weight.shape
    return rows * (columns + 4) + _CHUNK_BYTES * max(min(_CHUNK, rows * columns), columns)


def dequantize(tensor: Fp8Tensor) -> Tensor:
    """The float32 matrix [rows, columns]."""
    return tensor.weight.float() * tensor.scale


def _fit(values: Tensor) -> Tensor:
    """The scales [rows, 1] with the least squared error of `_PEAKS`; 1 for a row of zeros."""
    largest = values.abs().amax(dim=1, keepdim=True)
    best = _scale(largest, _PEAKS[0])
    least = _error(values, best)
    for peak in _PEAKS[1:]:
        scale = _scale(largest, peak)
        error = _error(values, scale)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def _scale(largest: Tensor, peak: float) -> Tensor:
    # By a tensor: where it divides by a number on a GPU, PyTorch multiplies by its reciprocal.
    return torch.where(largest == 0, 1.0, largest / torch.full_like(largest, peak))


def _error(values: Tensor, scale: Tensor) -> Tensor:
    """The squared error [rows, 1] that a scale leaves."""
    rounded = (values / scale).to(torch.float8_e4m3fn).float().mul_(scale)
    return rounded.sub_(values).square_().sum(dim=1, keepdim=True)
