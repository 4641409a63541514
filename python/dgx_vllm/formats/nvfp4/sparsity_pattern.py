"""Patterns of structured sparsity: which half of a matrix's values may be other than zero."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pattern:
    """Of every four consecutive runs of values along K, two may be other than zero.

    Args:
        name: as the command line and checkpoints have it.
        run: consecutive values that are kept or zeroed together.
    """

    name: str
    run: int

    @property
    def group(self) -> int:
        """Consecutive values among which the choice is made."""
        return 4 * self.run

    def keep(self, score: torch.Tensor) -> torch.Tensor:
        """The choice with the largest sum of scores; of equal ones the first stays.

        Args:
            score: [..., K], at least 0, what setting each value to zero costs; K a multiple of `group`.

        Returns:
            bool [..., K], True for what stays.

        Raises:
            ValueError: K is not a multiple of `group`.
        """
        if score.shape[-1] % self.group:
            raise ValueError(f"{self.name} needs a multiple of {self.group} columns, got {score.shape[-1]}")
        runs = score.reshape(*score.shape[:-1], -1, 4, self.run).sum(dim=-1)
        better = torch.zeros_like(runs, dtype=torch.uint8)
        for i in range(4):
            for j in range(i):
                first = runs[..., j] >= runs[..., i]
                better[..., i] += first
                better[..., j] += ~first
        return (better < 2).repeat_interleave(self.run, dim=-1).flatten(-2)


#: Two of four consecutive values.
TWO_OF_FOUR = Pattern("2:4", run=1)
#: Two pairs of eight consecutive values: the only sparsity that the tensor cores have for NVFP4 (PTX ISA 9.1,
#: "Sparse matrix storage": `mma.sp::ordered_metadata` with `.kind::mxf4nvf4`).
PAIRS = Pattern("4:8-pairs", run=2)

PATTERNS = {pattern.name: pattern for pattern in (TWO_OF_FOUR, PAIRS)}
