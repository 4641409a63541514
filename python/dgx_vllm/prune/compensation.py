"""Compensation: what is kept takes over what the inputs' correlations let it take over of what is zeroed.

SparseGPT (Frantar and Alistarh, arXiv:2301.00774) on NVFP4's blocks: columns from left to right, the error
of each spread over those to its right as the inputs' second moments say; what is kept of a block, and its
scale, are chosen when its columns are reached.
"""

import torch

from dgx_vllm.formats.nvfp4 import BLOCK_SIZE, Nvfp4Tensor, e2m1
from dgx_vllm.formats.nvfp4.block import E4M3_MAX
from dgx_vllm.formats.nvfp4.sparsity_pattern import Pattern

#: Added to the second moments' diagonal, as a share of its mean.
DAMPING = 0.01


def damped(moments: torch.Tensor) -> torch.Tensor:
    """Second moments [..., K, K] with DAMPING of their mean on the diagonal; never singular."""
    mean = moments.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    identity = torch.eye(moments.shape[-1], dtype=moments.dtype, device=moments.device)
    tiny = torch.finfo(moments.dtype).tiny
    added: torch.Tensor = (DAMPING * mean + tiny**0.5)[..., None, None] * identity
    return moments + added


def spreading(moments: torch.Tensor) -> torch.Tensor:
    """The upper Cholesky factor of the inverse of damped second moments.

    Args:
        moments: [..., K, K], E[x xᵀ] of a matrix's inputs.

    Returns:
        float32 [..., K, K]: row j says how an error in column j spreads over the columns from j on.
    """
    lower = torch.linalg.cholesky(damped(moments.double()))
    factor: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return factor.float()


def compensate(
    values: torch.Tensor, weight_scale_2: torch.Tensor, factor: torch.Tensor, pattern: Pattern
) -> Nvfp4Tensor:
    """Prunes and quantizes matrices.

    Args:
        values: float32 [..., rows, K].
        weight_scale_2: float32 [...] or [..., rows], the global scales to use.
        factor: [..., K, K] or [K, K], as `spreading` gives it for the matrices' inputs.
        pattern: of the zeros.

    Returns:
        Codes, block scales, and `weight_scale_2` as it is.
    """
    remaining = values.clone()
    scale_2 = weight_scale_2.float()
    scale_2 = scale_2 if scale_2.dim() == remaining.dim() - 1 else scale_2.unsqueeze(-1)
    codes, scales = [], []
    for begin in range(0, remaining.shape[-1], BLOCK_SIZE):
        end = begin + BLOCK_SIZE
        block, local = remaining[..., begin:end].clone(), factor[..., begin:end, begin:end]
        cost = local.diagonal(dim1=-2, dim2=-1).unsqueeze(-2) ** -2
        keep = pattern.keep(block**2 * cost)
        scale = _fit(block * keep, cost, scale_2)
        step = scale.float() * scale_2
        errors = torch.empty_like(block)
        chosen = torch.empty_like(block, dtype=torch.uint8)
        for j in range(BLOCK_SIZE):
            code = encode(block[..., j], step) * keep[..., j]
            error = (block[..., j] - e2m1.decode(code) * step) / local[..., j, j, None]
            block[..., j:] -= error.unsqueeze(-1) * local[..., None, j, j:]
            chosen[..., j], errors[..., j] = code, error
        remaining[..., end:] -= errors @ factor[..., begin:end, end:]
        codes.append(chosen)
        scales.append(scale)
    return Nvfp4Tensor(e2m1.pack(torch.cat(codes, dim=-1)), torch.stack(scales, dim=-1), weight_scale_2)


def encode(values: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Values over steps of the same shape to the nearest E2M1 codes; 0 where the step is 0."""
    return e2m1.encode(torch.where(step > 0, values / step, torch.zeros_like(values)))


def _fit(block: torch.Tensor, cost: torch.Tensor, scale_2: torch.Tensor) -> torch.Tensor:
    """E4M3 scales [..., rows] for blocks [..., rows, 16] whose squared errors weigh `cost`.

    The scale that puts the largest value on 6, then, given the codes that it leads to, the projection; the
    better.
    """
    largest = _e4m3(block.abs().amax(dim=-1) / (e2m1.MAX * scale_2))
    levels, error = _levels(block, cost, largest, scale_2)
    power = (cost * levels**2).sum(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    projected = _e4m3((cost * block * levels).sum(dim=-1) / power / scale_2)
    better = _levels(block, cost, projected, scale_2)[1] < error
    return torch.where(better, projected.float(), largest.float()).to(torch.float8_e4m3fn)


def _levels(
    block: torch.Tensor, cost: torch.Tensor, scale: torch.Tensor, scale_2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The E2M1 values [..., rows, 16] that a scale leads to, and the weighted square error [..., rows]."""
    step = (scale.float() * scale_2).unsqueeze(-1)
    levels = e2m1.decode(encode(block, step.expand_as(block)))
    return levels, (cost * (block - levels * step) ** 2).sum(dim=-1)


def _e4m3(scale: torch.Tensor) -> torch.Tensor:
    return scale.clamp(0, E4M3_MAX).to(torch.float8_e4m3fn)
