"""A matrix to NVFP4 some rows at a time, for layers that are quantized where they are served."""

import torch
from torch import Tensor

from dgx_vllm.formats.nvfp4 import block
from dgx_vllm.formats.nvfp4.block import BLOCK_SIZE, Nvfp4Tensor
from dgx_vllm.formats.nvfp4.fit import fitted

#: Rows of a tile of the 128x4 layout of block scales, and its columns.
_TILE_ROWS, _TILE_BLOCKS = 128, 4
#: Values that are quantized at a time, and the most bytes that one takes meanwhile.
_CHUNK = 1 << 21
_CHUNK_BYTES = 40


def quantize(weight: Tensor) -> Nvfp4Tensor | None:
    """Quantizes with fitted block scales and the matrix's own global scale; takes `room(weight)` bytes.

    Args:
        weight: [rows, columns], columns a multiple of 64.

    Returns:
        Packed codes; block scales in the 128x4 layout of the FP4 tensor cores, rows padded to 128 by zeros;
        the global scale. None where a value is not finite.
    """
    rows, columns = weight.shape
    largest = torch.stack([weight[part].abs().amax() for part in _parts(weight)]).amax().float()
    if not largest.isfinite():
        return None
    whole = block.global_scale(largest)
    packed = torch.empty(rows, columns // 2, dtype=torch.uint8, device=weight.device)
    padded, blocks = -(-rows // _TILE_ROWS) * _TILE_ROWS, columns // BLOCK_SIZE
    scale = torch.zeros(padded, blocks, dtype=torch.uint8, device=weight.device)
    # In the layout a row of a tile lies in groups, and parts are whole tiles.
    tiles = scale.view(padded // _TILE_ROWS, blocks // _TILE_BLOCKS, 32, 4, _TILE_BLOCKS)
    for part in _parts(weight):
        quantized = block.quantize(weight[part], whole, fitted)
        packed[part] = quantized.weight
        straight = quantized.weight_scale.view(torch.uint8)
        straight = torch.nn.functional.pad(straight, (0, 0, 0, -len(straight) % _TILE_ROWS))
        swizzled = straight.view(-1, 4, 32, blocks // _TILE_BLOCKS, _TILE_BLOCKS).permute(0, 3, 2, 1, 4)
        first = part.start // _TILE_ROWS
        tiles[first : first + len(swizzled)] = swizzled
    return Nvfp4Tensor(packed, scale.view(torch.float8_e4m3fn), whole)


def room(weight: Tensor) -> int:
    """Bytes that `quantize` needs in addition to the weight: its result, and what it works on."""
    rows, columns = weight.shape
    padded = -(-rows // _TILE_ROWS) * _TILE_ROWS
    at_a_time = min(_step(columns), rows)
    return rows * columns // 2 + padded * columns // BLOCK_SIZE + _CHUNK_BYTES * at_a_time * columns


def _parts(weight: Tensor) -> list[slice]:
    rows, columns = weight.shape
    step = _step(columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _step(columns: int) -> int:
    return max(1, _CHUNK // columns // _TILE_ROWS) * _TILE_ROWS
