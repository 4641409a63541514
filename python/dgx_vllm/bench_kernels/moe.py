"""Measuring an implementation on MoE layers."""

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch

from dgx_vllm.bench_kernels import float64_layer, layer_inputs, timing
from dgx_vllm.bench_kernels.implementation import CASES, Case, Implementation, Prepared
from dgx_vllm.bench_kernels.measurements import Row, Timed
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe

#: Layers in a graph; with experts of their own they hold more bytes than L2.
LAYERS = 48


class WrongError(Exception):
    """An implementation's result is not the layer's."""


def weights(shape: Moe) -> Weights:
    """The same ones for the same shape."""
    generator = torch.Generator("cuda").manual_seed(7)
    return Weights(
        Experts(shape.experts, shape.hidden, shape.intermediate, generator),
        Experts(1, shape.hidden, shape.shared_intermediate, generator),
    )


def measure(
    implementation: Implementation,
    shape: Moe,
    tokens: Sequence[int],
    read_gbps: float,
    say: Callable[[Row], None],
) -> Iterator[Timed]:
    """Checks and times every case that applies.

    Args:
        tokens: numbers of them.
        read_gbps: the machine's streaming read.
        say: told of each row, as soon as it is there.

    Raises:
        WrongError: a result differs from float64's by more than the implementation's tolerance.
    """
    prepared = implementation.prepare(weights(shape), shape, tokens)
    for count in tokens:
        check(implementation, prepared, shape, count)
        for case in CASES:
            if not case.overlap and count * shape.top_k > shape.experts:
                continue
            drawn = layer_inputs.draw(shape, count, LAYERS, overlap=case.overlap)
            ways = [prepared.layers(case, inputs) for inputs in drawn]
            if not ways[0]:
                continue
            us = min(timing.each(layers) for layers in zip(*ways, strict=True))
            experts = statistics.mean(len(inputs.ids.unique()) for inputs in drawn)
            size = experts * prepared.expert_bytes + (prepared.shared_bytes if case.shared else 0)
            gbps = size / us / 1e3
            row = Row(implementation.kernel(case), shape.name, count, us, gbps, gbps / read_gbps)
            say(row)
            yield Timed(implementation.name, _work(case) if prepared.weights else "", row)


def _work(case: Case) -> str:
    """What is computed, whatever the scales' layout."""
    return f"overlap={case.overlap} shared={case.shared}"


def check(implementation: Implementation, prepared: Prepared, shape: Moe, tokens: int) -> None:
    """Holds every way of running the layer against float64.

    Raises:
        WrongError: one is further off than the tolerance.
    """
    if prepared.weights is None:
        return
    (inputs,) = layer_inputs.draw(shape, tokens, 1, overlap=True)
    routed = float64_layer.routed(prepared.weights, inputs)
    shared = float64_layer.shared(prepared.weights, inputs)
    for case in CASES:
        for layer in prepared.layers(case, inputs):
            error = float64_layer.relative_l2(layer(), routed + shared if case.shared else routed)
            if not error <= implementation.tolerance:
                raise WrongError(
                    f"{implementation.kernel(case)} with {tokens} tokens on {shape.name}: relative L2 error "
                    f"{error:.2e} against float64, where {implementation.tolerance:.0e} is accepted"
                )
