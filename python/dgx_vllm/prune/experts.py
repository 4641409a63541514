"""Experts: the matrices of a block's experts, and how half of each is chosen.

An expert computes `down(act(gate x) * (up x))`, or `down(act(up x))` where it has no gate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, e2m1
from dgx_vllm.formats.nvfp4.sparsity_pattern import Pattern
from dgx_vllm.prune import input_estimates
from dgx_vllm.prune.compensation import compensate, damped, spreading

Activation = Callable[[torch.Tensor], torch.Tensor]

#: What tokens that the router sends elsewhere count, against those that it sends to an expert.
ELSEWHERE = 0.1


@dataclass(frozen=True)
class Experts:
    """Some of a block's experts, stacked.

    Attributes:
        gate, up: weight [experts, intermediate, hidden / 2], weight_scale [experts, intermediate, hidden /
            16], weight_scale_2 [experts]; gate is None where experts have none.
        down: [experts, hidden, intermediate / 2] and so on.
        activation: of the gate.
    """

    gate: Nvfp4Tensor | None
    up: Nvfp4Tensor
    down: Nvfp4Tensor
    activation: Activation

    @property
    def matrices(self) -> tuple[Nvfp4Tensor, ...]:
        """Gate, where there is one, up and down."""
        return (*(() if self.gate is None else (self.gate,)), self.up, self.down)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """What reaches `down`: x [tokens, hidden] to [experts, tokens, intermediate]."""
        up = x @ dequantize(self.up).mT
        if self.gate is None:
            return self.activation(up)
        return self.activation(x @ dequantize(self.gate).mT) * up

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [tokens, hidden] to [experts, tokens, hidden]."""
        return self.inner(x) @ dequantize(self.down).mT


@dataclass(frozen=True)
class Samples:
    """Inputs that a block's experts saw.

    Attributes:
        x: float32 [tokens, hidden].
        chosen: bool [experts, tokens], whom the router sent which token; all True where that is unknown.
        factor: `compensation.spreading` of x's second moments.
    """

    x: torch.Tensor
    chosen: torch.Tensor
    factor: torch.Tensor


def by_magnitude(experts: Experts, pattern: Pattern) -> Experts:
    """Keeps the largest magnitudes."""
    gate = None if experts.gate is None else _largest(experts.gate, None, pattern)
    up, down = _largest(experts.up, None, pattern), _largest(experts.down, None, pattern)
    return Experts(gate, up, down, experts.activation)


def by_rms(experts: Experts, rms: torch.Tensor, pattern: Pattern) -> Experts:
    """Keeps what costs the most output, were the inputs' channels independent.

    What is kept stays as it was, which is the best that can be done for independent channels: there is no
    error in it that another scale could lessen.

    Args:
        rms: [hidden], root mean squares of the inputs' channels.
    """
    gate = None if experts.gate is None else _largest(experts.gate, rms, pattern)
    inner = input_estimates.inner_rms(
        None if experts.gate is None else dequantize(experts.gate),
        dequantize(experts.up),
        rms,
        experts.activation,
    )
    return Experts(
        gate, _largest(experts.up, rms, pattern), _largest(experts.down, inner, pattern), experts.activation
    )


def by_samples(experts: Experts, samples: Samples, pattern: Pattern) -> Experts:
    """Compensates by the inputs' second moments; `down` also for what happened to its inputs.

    `down` starts from the weights that make of the pruned gate and up what it made of the unpruned ones, by
    least squares.
    """
    halves = [part for part in (experts.gate, experts.up) if part is not None]
    pruned = [compensate(dequantize(part), part.weight_scale_2, samples.factor, pattern) for part in halves]
    first = Experts(pruned[0] if len(pruned) == 2 else None, pruned[-1], experts.down, experts.activation)
    before, after = experts.inner(samples.x), first.inner(samples.x)
    # Those that the router chose for an expert count most, but few are chosen for any one of many.
    share = samples.chosen / samples.chosen.sum(dim=1, keepdim=True).clamp(min=1)
    weights = (share + ELSEWHERE / samples.x.shape[0]).unsqueeze(-1)
    moments = (after * weights).mT @ after
    crossed = (after * weights).mT @ before
    # The weights that make of the pruned experts' inner values what `down` made of the unpruned ones'.
    solved = torch.linalg.solve(damped(moments.double()), (crossed + damped(moments) - moments).double())
    target = dequantize(experts.down) @ solved.float().mT
    down = compensate(target, experts.down.weight_scale_2, spreading(moments), pattern)
    return Experts(first.gate, first.up, down, experts.activation)


def _largest(tensor: Nvfp4Tensor, rms: torch.Tensor | None, pattern: Pattern) -> Nvfp4Tensor:
    """Zeros all but the largest |value| * rms; codes and scales that are kept stay the same.

    Args:
        rms: [K] or [experts, K].
    """
    values = dequantize(tensor) if rms is None else dequantize(tensor) * rms.unsqueeze(-2)
    codes = e2m1.unpack(tensor.weight) * pattern.keep(values**2)
    return Nvfp4Tensor(e2m1.pack(codes), tensor.weight_scale, tensor.weight_scale_2)
