"""Measuring an implementation: what is checked, which cases count, and for how many bytes.

It is timed by a stand-in, on the CPU.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch

from dgx_vllm.bench_kernels import float64_layer, layer_inputs, measurements, moe, timing
from dgx_vllm.bench_kernels.implementation import CASES, Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.measurements import Row, Timed
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe

SHAPE = Moe("small", 64, 64, 12, 3, 128)


class Exact:
    """The reference itself, in bfloat16: `wrong` is added to it; `us` is what each of its ways takes."""

    tolerance = 1e-2

    def __init__(
        self, name: str, us: Sequence[float], cases: Sequence[Case] = CASES, wrong: float = 0
    ) -> None:
        self.name, self.us, self.cases, self.wrong = name, us, cases, wrong

    def kernel(self, case: Case) -> str:
        return f"{self.name}, {case.name}"

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> "Exact":
        self.weights = weights
        self.expert_bytes, self.shared_bytes = weights.routed.bytes_each, weights.shared.bytes_each
        return self

    def layers(self, case: Case, given: Inputs) -> Sequence[Layer]:
        def run(us: float) -> torch.Tensor:
            out = float64_layer.routed(self.weights, given)
            if case.shared:
                out = out + float64_layer.shared(self.weights, given)
            return (out * (1 + self.wrong)).bfloat16()

        return [partial(run, us) for us in self.us] if case in self.cases else []


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = Weights(Experts(12, 64, 64, generator), Experts(1, 64, 128, generator))
    monkeypatch.setattr(moe, "weights", lambda shape: weights)
    monkeypatch.setattr(layer_inputs, "draw", partial(layer_inputs.draw, device="cpu"))
    # A way's time is what it was made with.
    monkeypatch.setattr(timing, "each", lambda layers: layers[0].args[0])


def measured(implementation: Any, tokens: Sequence[int] = (1, 4)) -> list[Timed]:
    said: list[Row] = []
    found = list(moe.measure(implementation, SHAPE, tokens, 100.0, said.append))
    assert said == [each.row for each in found]
    return found


def test_the_faster_way_counts() -> None:
    assert {each.row.us for each in measured(Exact("ours", (7.0, 5.0)))} == {5.0}


def test_gb_are_those_of_the_experts_that_are_read() -> None:
    each = Experts(1, 64, 64, torch.Generator()).bytes_each
    by_kernel = {(t.row.kernel, t.row.m): t.row for t in measured(Exact("ours", (5.0,)))}
    row = by_kernel["ours, routed", 4]
    assert row.gbps == pytest.approx(12 * each / 5.0 / 1e3)
    assert row.fraction_of_read == pytest.approx(row.gbps / 100)
    with_shared = by_kernel["ours, routed + shared", 4]
    assert with_shared.gbps == pytest.approx((12 + 2) * each / 5.0 / 1e3)  # twice as wide, so twice the bytes
    assert by_kernel["ours, routed, overlapping", 4].gbps < row.gbps


def test_distinct_experts_are_left_out_where_there_are_too_few() -> None:
    assert {each.row.kernel for each in measured(Exact("ours", (5.0,)), (5,))} == {
        "ours, routed, overlapping"
    }


def test_scales_of_either_layout_are_held_against_the_same_peer() -> None:
    peer = Exact("Marlin", (10.0,), [case for case in CASES if case.swizzled])
    found = measurements.compare(measured(Exact("ours", (5.0,))) + measured(peer), ("Marlin", "Humming"))
    ours = [row for row in found if row.kernel.startswith("ours")]
    assert len(ours) == 2 * len(CASES)
    assert {(row.vs_marlin, row.vs_humming) for row in ours} == {(2.0, None)}


@pytest.mark.parametrize("wrong", [0.02, float("nan")])
def test_a_wrong_result_is_not_timed(wrong: float) -> None:
    with pytest.raises(moe.WrongError, match=r"ours, routed with 1 tokens on small: relative L2 error"):
        measured(Exact("ours", (5.0,), wrong=wrong))
