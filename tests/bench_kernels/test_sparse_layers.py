"""Layers of 2:4 in the benchmark: what is measured, and held against what; on the CPU, by the reference."""

from functools import partial
from typing import Any

import pytest
import torch

from dgx_vllm.bench_kernels import layer_inputs, moe, timing
from dgx_vllm.bench_kernels.measurements import Timed
from dgx_vllm.bench_kernels.moe_decode_24 import MoeDecode24, keep_two
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.formats.nvfp4.tiles import violations
from dgx_vllm.kernels import abi, reference
from dgx_vllm.kernels.moe_layer import ExpertTiles, Routing

SHAPE = Moe("small", 256, 256, 4, 2, 512)


#: What the library's function calls its arguments, in its order.
NOTHING: Any = None
PARAMETERS = abi.moe_decode_24(
    *(NOTHING, NOTHING, ExpertTiles(*[NOTHING] * 4), Routing(NOTHING, NOTHING), None, NOTHING, "silu")
).arguments


def tiles(arguments: dict[str, Any], prefix: str) -> ExpertTiles:
    return ExpertTiles(*(arguments[f"{prefix}{name}"] for name in ("w13", "w13_global", "w2", "w2_global")))


class Library:
    """What the kernel computes; `wrong` is added."""

    wrong = 0.0

    def moe_decode_workspace(self, *sizes: int) -> int:
        return 8

    def moe_decode_24(self, *positional: Any) -> None:
        a = dict(zip(PARAMETERS, positional, strict=True))
        assert (a["activation"], a["weight_on_input"]) == ("silu", False)
        x = a["x"]
        routing = Routing(a["topk_ids"], a["topk_weights"], a["expert_map"])
        result = reference.moe_decode_24(x, tiles(a, ""), routing, a["activation"])
        if a["shared_w13"] is not None:
            factor = torch.sigmoid(x.float() @ a["shared_gate"].float())[:, None]
            every_token = Routing(torch.zeros(len(x), 1, dtype=torch.int32), factor)
            result += reference.moe_decode_24(x, tiles(a, "shared_"), every_token, a["activation"])
        a["out"].copy_(result * (1 + self.wrong))


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = Weights(Experts(4, 256, 256, generator), Experts(1, 256, 512, generator))
    monkeypatch.setattr(moe, "weights", lambda shape: weights)
    monkeypatch.setattr(moe, "LAYERS", 2)
    monkeypatch.setattr(layer_inputs, "draw", partial(layer_inputs.draw, device="cpu"))
    monkeypatch.setattr(timing, "each", lambda layers: 5.0)


def measured(library: Library, shape: Moe = SHAPE) -> list[Timed]:
    return list(moe.measure(MoeDecode24(library), shape, (2,), 100.0, lambda row: None))


def test_cases_are_those_of_the_dense_kernel_but_for_the_scales_layout() -> None:
    """Their results are right, or they would not be timed."""
    found = measured(Library())
    assert [each.row.kernel for each in found] == [
        f"moe_decode 2:4, {name}" for name in ("routed", "routed + shared", "routed, overlapping")
    ]
    weights = 4 * 3 * 256 * 256
    assert found[0].row.gbps == pytest.approx(weights * 3.5 / 8 / 5.0 / 1e3)


def test_a_wrong_result_is_not_timed() -> None:
    library = Library()
    library.wrong = 0.02
    with pytest.raises(moe.WrongError, match="moe_decode 2:4, routed with 2 tokens"):
        measured(library)


def test_sizes_that_are_no_whole_tiles_are_left_out() -> None:
    assert measured(Library(), Moe("odd", 256, 256, 4, 2, 320)) == []


def test_what_is_pruned_is_sparse_and_half_of_what_there_was() -> None:
    packed = torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8)
    kept = keep_two(packed, torch.Generator().manual_seed(2))
    assert not violations(kept).any()
    low, high = (kept & 15, packed & 15), (kept >> 4, packed >> 4)
    assert all(((now == before) | (now == 0)).all() for now, before in (low, high))
    assert sum((now == before).double().mean() for now, before in (low, high)) / 2 > 0.5
