"""Deviation: what pruning did to the outputs of each block of experts."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dgx_vllm.formats.nvfp4 import dequantize
from dgx_vllm.prune.blocks import Block
from dgx_vllm.prune.calibration import Calibration
from dgx_vllm.prune.method import BATCH
from dgx_vllm.prune.source import Source
from dgx_vllm.util.errors import UserError

#: Tokens that run through an expert.
TOKENS = 256
_SEED = 0


@dataclass(frozen=True)
class Deviation:
    """Of one block, over all of its experts.

    Args:
        block: its name.
        gate, up, down: ||(W - W') x|| / ||W x|| of each matrix, with the inputs of the unpruned experts;
            gate is None where there is none.
        output: the same of whole experts.
        cosine: between an expert's outputs before and after, the mean over tokens and experts.
    """

    block: str
    gate: float | None
    up: float
    down: float
    output: float
    cosine: float


def of(
    source: Source, pruned: Source, blocks: list[Block], calibration: Calibration | None
) -> Iterator[Deviation]:
    """Compares two checkpoints, block by block.

    Args:
        source, pruned: before and after.
        blocks: the experts to look at.
        calibration: inputs to compare on; without samples in it they are drawn, channels independent and
            normal, of the sizes that it or the norm in front of the block says.

    Raises:
        UserError: the checkpoints hold different experts.
    """
    for block in blocks:
        for module in block.modules():
            stored = pruned.tensors.get(f"{module}.weight")
            if stored is None or stored.shape != source.tensors[f"{module}.weight"].shape:
                raise UserError(
                    f"{pruned.model} has no {module} of the size of {source.model}'s; "
                    "give a checkpoint that was pruned from it"
                )
        yield _of(source, pruned, block, _inputs(source, block, calibration))


def _inputs(source: Source, block: Block, calibration: Calibration | None) -> torch.Tensor:
    hidden = 2 * source.tensors[f"{block.module(block.indices[0], block.up)}.weight"].shape[1]
    rms = source.norm_rms(block, hidden)
    if calibration is not None and block.routed in calibration:
        samples = calibration.of(block.routed, hidden)
        if samples.dim() == 2:
            step = max(1, samples.shape[0] // TOKENS)
            return samples[::step][:TOKENS]
        rms = samples
    generator = torch.Generator().manual_seed(_SEED)
    drawn = torch.randn(TOKENS, hidden, generator=generator)
    return drawn if rms is None else drawn * rms


def _of(source: Source, pruned: Source, block: Block, x: torch.Tensor) -> Deviation:
    squares = {part: [0.0, 0.0] for part in (*block.leaves, "output")}
    cosines: list[torch.Tensor] = []

    def note(part: str, before: torch.Tensor, after: torch.Tensor) -> None:
        squares[part][0] += float((before - after).double().square().sum())
        squares[part][1] += float(before.double().square().sum())

    for begin in range(0, len(block.indices), BATCH):
        indices = block.indices[begin : begin + BATCH]
        before, after = source.experts(block, indices), pruned.experts(block, indices)
        inner = before.inner(x)
        for leaf, old, new in zip(block.leaves, before.matrices, after.matrices, strict=True):
            entering = inner if leaf == block.down else x
            note(leaf, entering @ dequantize(old).mT, entering @ dequantize(new).mT)
        outputs = inner @ dequantize(before.down).mT, after(x)
        note("output", *outputs)
        cosines.append(torch.cosine_similarity(*outputs, dim=-1).flatten())

    def relative(part: str) -> float:
        wrong, whole = squares[part]
        return (wrong / whole) ** 0.5 if whole else 0.0

    return Deviation(
        block.name,
        relative(block.gate) if block.gate else None,
        relative(block.up),
        relative(block.down),
        relative("output"),
        float(torch.cat(cosines).mean()),
    )
