"""The study behind docs/guides/pruning.md, on weights and inputs that are drawn.

    dgx-vllm exec python -m dgx_vllm.prune.study            the table
    dgx-vllm exec python -m dgx_vllm.prune.study --text N   documents of the demo's corpus, from seed N

Weights are Student's t with 5 degrees of freedom (heavier tails than a normal's), quantized as ModelOpt does.
Inputs have channels of sizes exp(0.4 z), one in 64 of them eight times that (outliers), and half of their
power in 1/8 as many common directions (correlation). Seed 1; two experts of Qwen3-Next's size, 2048 x 512;
4096 tokens to prune by and 512 others to compare on.
"""

import argparse
import itertools
import math
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from dgx_vllm.demo.corpus import Document, documents
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, TURN_START
from dgx_vllm.formats.nvfp4 import dequantize, quantize
from dgx_vllm.formats.nvfp4.sparsity_pattern import PATTERNS, Pattern
from dgx_vllm.prune import experts
from dgx_vllm.prune.compensation import compensate, spreading
from dgx_vllm.prune.experts import Experts, Samples

HIDDEN, INNER = 2048, 512
COUNT = 2
SEED = 1
DOCUMENTS = 300


class Drawn:
    """Experts and what reaches them.

    Args:
        seed: of all that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.sizes = torch.exp(0.4 * self._normal(HIDDEN))
        self.sizes[torch.randperm(HIDDEN, generator=self._generator)[: HIDDEN // 64]] *= 8
        self._common = self._normal(HIDDEN // 8, HIDDEN) / (HIDDEN // 8) ** 0.5
        self.weights = [
            self._student(COUNT, rows, columns) / columns**0.5
            for rows, columns in ((INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER))
        ]

    def inputs(self, tokens: int) -> torch.Tensor:
        own = self._normal(tokens, HIDDEN)
        x: torch.Tensor = own + self._normal(tokens, HIDDEN // 8) @ self._common
        return x * math.sqrt(0.5) * self.sizes

    def _normal(self, *shape: int) -> torch.Tensor:
        drawn: torch.Tensor = torch.randn(*shape, generator=self._generator)
        return drawn

    def _student(self, *shape: int) -> torch.Tensor:
        square = sum(self._normal(*shape) ** 2 for _ in range(5)) / 5
        return self._normal(*shape) / torch.as_tensor(square).sqrt()


def ways(samples: Samples) -> dict[str, Callable[[Experts, Pattern], Experts]]:
    """Each step on the way to the method."""
    rms = samples.x.pow(2).mean(dim=0).sqrt()

    def spread_only(before: Experts, pattern: Pattern) -> Experts:
        inner = before.inner(samples.x)
        moments = inner.mT @ inner / inner.shape[1]
        parts = zip(before.matrices, (samples.factor, samples.factor, spreading(moments)), strict=True)
        pruned = [compensate(dequantize(m), m.weight_scale_2, factor, pattern) for m, factor in parts]
        return Experts(pruned[0], pruned[1], pruned[2], before.activation)

    def refitted(before: Experts, pattern: Pattern) -> Experts:
        chosen = experts.by_rms(before, rms, pattern)
        # Independent inputs of these sizes: nothing is spread, and scales and codes are fitted again.
        parts = zip(chosen.matrices, _sizes(chosen, samples.x), strict=True)
        pruned = [
            compensate(dequantize(m), m.weight_scale_2, torch.diag_embed(1 / s), pattern) for m, s in parts
        ]
        return Experts(pruned[0], pruned[1], pruned[2], before.activation)

    return {
        "magnitude": experts.by_magnitude,
        "activation, channel rms": lambda before, pattern: experts.by_rms(before, rms, pattern),
        "  + scales re-fitted": refitted,
        "  + errors spread": spread_only,
        "  + down by least squares": lambda before, pattern: experts.by_samples(before, samples, pattern),
    }


def _sizes(some: Experts, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    outer = x.pow(2).mean(dim=0).sqrt()
    inner = some.inner(x).pow(2).mean(dim=1).sqrt()
    return outer, outer, inner


def table() -> Table:
    """Relative error and cosine of experts' outputs, on inputs that nothing was chosen by."""
    drawn = Drawn(SEED)
    gate, up, down = (quantize(weight) for weight in drawn.weights)
    before = Experts(gate, up, down, torch.nn.functional.silu)
    x, other = drawn.inputs(4096), drawn.inputs(512)
    everyone = torch.ones(COUNT, x.shape[0], dtype=torch.bool)
    samples = Samples(x, everyone, spreading(x.T @ x / x.shape[0]))
    expected = before(other)
    comparison = Table("", *(f"{name} {what}" for name in PATTERNS for what in ("error", "cosine")))
    original = _unquantized(drawn.weights, other)
    row = _figures(original, expected)
    comparison.add_row("NVFP4 against what it was made from", *row, *row)
    for name, way in ways(samples).items():
        cells = [_figures(expected, way(before, pattern)(other)) for pattern in PATTERNS.values()]
        comparison.add_row(name, *itertools.chain(*cells))
    return comparison


def _unquantized(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    gate, up, down = weights
    return (torch.nn.functional.silu(x @ gate.mT) * (x @ up.mT)) @ down.mT


def _figures(before: torch.Tensor, after: torch.Tensor) -> tuple[str, str]:
    relative = float((before - after).norm() / before.norm())
    return f"{relative:.3f}", f"{float(torch.cosine_similarity(before, after, dim=-1).mean()):.3f}"


def _rendered(document: Document) -> str:
    if isinstance(document, str):
        return document + END_OF_TEXT
    turns = (
        f"{TURN_START}user\n{turn.user}{TURN_END}\n{TURN_START}assistant\n{turn.assistant}{TURN_END}\n"
        for turn in document
    )
    return "".join(turns) + END_OF_TEXT


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="dgx-vllm exec python -m dgx_vllm.prune.study")
    parser.add_argument("--text", type=int, metavar="SEED")
    seed = parser.parse_args().text
    if seed is None:
        Console(width=120).print(table())
    else:
        print("".join(map(_rendered, itertools.islice(documents(seed), DOCUMENTS))), end="")


if __name__ == "__main__":
    main()
