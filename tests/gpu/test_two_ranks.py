"""`--moe-backend dgx` with expert parallelism over two GPUs, each of which holds half of the experts."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import torch
from engines import LAYERS, RANKS, run
from layer_probes import BOUND
from taught import check_text

pytestmark = [pytest.mark.gpu, pytest.mark.engine]

Record = Callable[[str, object], None]


@pytest.mark.parametrize("name", RANKS)
def test_each_rank_serves_its_experts(
    name: str,
    kernels_run: None,
    session_environment: dict[str, str],
    tmp_path: Path,
    record_property: Record,
) -> None:
    """The taught text, and layers of each rank against float64, with the shared expert's half as a slot."""
    if torch.cuda.device_count() < 2:
        pytest.skip("two GPUs are needed")
    answer, log = run(RANKS[name](tmp_path), tmp_path, session_environment)
    assert "Expert parallelism is enabled" in log
    assert len(answer.experts) == 2
    for rank in answer.experts:
        assert len(rank) == LAYERS
        assert set(rank.values()) <= {"DecodeExperts", "SlicedExperts"}
    for each in answer.figures:
        record_property(f"{name}, {each.case}, {each.tokens} tokens", f"relative L2 {each.error:.2e}")
    assert {each.case for each in answer.figures} >= {"all experts", "half of the experts"}
    assert max(each.error for each in answer.figures) < BOUND
    assert all(each.repeats for each in answer.figures)
    if "demo" in name:
        check_text(answer)
