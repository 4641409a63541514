"""Block scales that are fitted to their blocks, for matrices that are quantized where they are served.

E2M1's steps widen towards 6, so that the scale which puts a block's largest magnitude there is often not the
best: put on 4, the widest step below it is a quarter of it and no longer a third (Four Over Six, Cook et al.,
arXiv:2512.02010, chooses between the two), and clipped a little, every step is narrower. All of E4M3 from the
one to the other is tried.
"""

import torch

from dgx_vllm.formats.nvfp4 import e2m1
from dgx_vllm.formats.nvfp4.block import by_largest

#: Where candidates lie in E4M3 from `by_largest`'s scale: eight make an octave. Further ones gain a
#: thousandth of the error at most.
_BESIDE = (-2, -1, 1, 2, 3, 4, 5, 6)
#: The code of E4M3's largest finite value; those below it are in the order of their values.
_LARGEST_CODE = 126


def fitted(blocks: torch.Tensor, weight_scale_2: torch.Tensor) -> torch.Tensor:
    """`BlockScales` that leave each block the least squared error of nine; `by_largest`'s is one of them."""
    best = by_largest(blocks, weight_scale_2).view(torch.uint8).to(torch.int16)
    first = best.clone()
    least = _error(blocks, best, weight_scale_2)
    for offset in _BESIDE:
        code = (first + offset).clamp_(0, _LARGEST_CODE)
        error = _error(blocks, code, weight_scale_2)
        best = torch.where(error < least, code, best)
        least = torch.minimum(error, least)
    return best.to(torch.uint8).view(torch.float8_e4m3fn)


def _error(blocks: torch.Tensor, code: torch.Tensor, weight_scale_2: torch.Tensor) -> torch.Tensor:
    """The squared error [...] that scales of these codes leave to `blocks` [..., 16]."""
    scale = code.to(torch.uint8).view(torch.float8_e4m3fn).to(torch.float32)
    step = (scale * weight_scale_2).unsqueeze(-1)
    # What a step of 0 makes of a block is zeros; the division may make anything.
    rounded = e2m1.nearest(blocks / torch.where(step > 0, step, torch.ones_like(step))).mul_(step)
    return rounded.sub_(blocks).square_().sum(dim=-1)
