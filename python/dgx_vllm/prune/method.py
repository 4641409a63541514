"""Method: how the experts of a checkpoint are pruned, block by block."""

from collections.abc import Iterator

import torch

from dgx_vllm.formats.nvfp4.sparsity_pattern import Pattern
from dgx_vllm.formats.tensor_roles import is_draft
from dgx_vllm.prune import experts
from dgx_vllm.prune.blocks import Block
from dgx_vllm.prune.calibration import Calibration
from dgx_vllm.prune.compensation import spreading
from dgx_vllm.prune.experts import Experts, Samples
from dgx_vllm.prune.source import Source
from dgx_vllm.util.messages import say

MAGNITUDE = "magnitude"
ACTIVATION = "activation"
#: Experts that are pruned at once, which bounds the memory.
BATCH = 8


class Method:
    """A way to prune a checkpoint.

    Args:
        name: MAGNITUDE or ACTIVATION.
        pattern: of the zeros.
        source: the checkpoint.
        calibration: what reached the experts; without it ACTIVATION goes by the norms in front of them.
    """

    def __init__(self, name: str, pattern: Pattern, source: Source, calibration: Calibration | None) -> None:
        self._name, self._pattern = name, pattern
        self._source, self._calibration = source, calibration
        self._seen: tuple[str, torch.Tensor | Samples] | None = None

    def batches(self, block: Block) -> Iterator[tuple[int | None, ...]]:
        """Which of a block's experts are pruned together; always the same ones, so that results are too."""
        for begin in range(0, len(block.indices), BATCH):
            yield block.indices[begin : begin + BATCH]

    def prune(self, block: Block, indices: tuple[int | None, ...]) -> dict[str, torch.Tensor]:
        """What the tensors of some experts become, by name; those that stay the same are left out.

        Raises:
            UserError: the checkpoint or the calibration cannot be used for it.
        """
        before = self._source.experts(block, indices)
        after = self._pruned(block, indices, before)
        tensors: dict[str, torch.Tensor] = {}
        parts = zip(block.leaves, before.matrices, after.matrices, strict=True)
        for leaf, old, new in parts:
            for position, index in enumerate(indices):
                module = block.module(index, leaf)
                tensors[f"{module}.weight"] = new.weight[position]
                if new.weight_scale is not old.weight_scale:
                    tensors[f"{module}.weight_scale"] = new.weight_scale[position]
        return tensors

    def _pruned(self, block: Block, indices: tuple[int | None, ...], before: Experts) -> Experts:
        if self._name == MAGNITUDE:
            return experts.by_magnitude(before, self._pattern)
        known = self._known(block, before.up.weight.shape[-1] * 2)
        if isinstance(known, Samples):
            rows = [block.indices.index(index) for index in indices]
            chosen = Samples(known.x, known.chosen[rows], known.factor)
            return experts.by_samples(before, chosen, self._pattern)
        return experts.by_rms(before, known, self._pattern)

    def _known(self, block: Block, hidden: int) -> torch.Tensor | Samples:
        """What is known of a block's inputs; kept until another block is asked for."""
        if self._seen is None or self._seen[0] != block.name:
            self._seen = (block.name, self._look(block, hidden))
        return self._seen[1]

    def _look(self, block: Block, hidden: int) -> torch.Tensor | Samples:
        # Drafts do not run while a calibration is made.
        if self._calibration is None or (is_draft(block.name) and block.routed not in self._calibration):
            rms = self._source.norm_rms(block, hidden)
            if rms is None:
                say(f"{block.name}: no norm in front of it was found; its inputs' channels count the same")
            return torch.ones(hidden) if rms is None else rms
        inputs = self._calibration.of(block.routed, hidden)
        if inputs.dim() == 1:
            return inputs
        return Samples(inputs, self._chosen(block, inputs), spreading(inputs.T @ inputs / inputs.shape[0]))

    def _chosen(self, block: Block, x: torch.Tensor) -> torch.Tensor:
        router = self._source.router(block) if block.indices != (None,) else None
        if router is None:
            return torch.ones(len(block.indices), x.shape[0], dtype=torch.bool)
        weight, top = router
        best = (x @ weight.T).topk(top, dim=1).indices
        return torch.zeros(x.shape[0], len(block.indices), dtype=torch.bool).scatter(1, best, True).T
