"""Bounds: what a kernel could reach at best, by the same bytes read and nothing computed."""

from collections.abc import Sequence
from functools import partial

import torch

from dgx_vllm.bench_kernels import timing
from dgx_vllm.bench_kernels.implementation import CASES, Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.kernels.library import Library

_READ_BYTES = 2 << 30


def streaming_read(bounds: Library) -> float:
    """GB/s of one kernel that reads 2 GiB."""
    buffer = torch.randint(0, 255, (_READ_BYTES,), dtype=torch.uint8, device="cuda")
    sink = torch.zeros(1, dtype=torch.int32, device="cuda")
    us = timing.each([partial(bounds.stream_read, buffer, sink)], 8)
    return buffer.numel() / us / 1e3


class Prepared:
    weights = None

    def __init__(self, bounds: Library, weights: Weights) -> None:
        self.bounds, self.experts = bounds, weights.routed
        self.sink = torch.zeros(1, dtype=torch.int32, device="cuda")
        self.expert_bytes, self.shared_bytes = weights.routed.bytes_each, weights.shared.bytes_each

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        e = self.experts
        if case != CASES[0]:
            return []
        return [partial(self.bounds.moe_bytes, e.w13, e.s13, e.w2, e.s2, inputs.ids, self.sink)]


class BytesOnly:
    """The routed experts' bytes, read by two grids as moe_decode reads them."""

    name = "bytes only"
    tolerance = 0.0

    def __init__(self, bounds: Library) -> None:
        self.bounds = bounds

    def kernel(self, case: Case) -> str:
        return self.name

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared:
        return Prepared(self.bounds, weights)
