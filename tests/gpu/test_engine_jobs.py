"""What the engines are asked, looked at where none can run."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("vllm")

import test_demo_options
import test_experts_in_vllm
import test_pruned_in_vllm
from engines import JOBS, RANKS, SHAPE, EngineError, run
from job import Job

from dgx_vllm.bench_decode import model_configs

_ASKED = JOBS | {f"two ranks, {name}": job for name, job in RANKS.items()}


@pytest.mark.parametrize("job", _ASKED.values(), ids=_ASKED)
def test_vllm_has_their_arguments(job: Callable[[Path], Job], tmp_path: Path) -> None:
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    asked = job(tmp_path)
    known = {field.name for field in dataclasses.fields(EngineArgs)} | set(inspect.signature(LLM).parameters)
    assert set(asked.arguments) <= known
    for request in (request for batch in asked.batches for request in batch):
        assert request.prompt
        assert request.tokens > 0
        assert request.forced is None or len(request.forced) == request.tokens
    assert all(len(batch) <= asked.arguments["max_num_seqs"] for batch in asked.batches[1:])


def test_steps_of_random_weights_are_the_kernels(tmp_path: Path) -> None:
    """No more than 16 tokens, prompts among them, of the model's vocabulary; the same for all engines."""
    made = [JOBS[name](tmp_path / name.split(", ")[1]) for name in JOBS if name.startswith("random")]
    vocabulary = model_configs.config(SHAPE)["vocab_size"]
    for batch in made[0].batches:
        assert sum(len(request.prompt) for request in batch) <= 16
        assert all(0 <= token < vocabulary for request in batch for token in request.forced or ())
    assert made[0].batches == made[1].batches == made[2].batches


def test_every_engine_is_asked() -> None:
    modules = (test_demo_options, test_experts_in_vllm, test_pruned_in_vllm)
    marks = [mark for module in modules for mark in getattr(module, "pytestmark", [])]
    for _, test in inspect.getmembers(test_demo_options, inspect.isfunction):
        marks += getattr(test, "pytestmark", [])
    assert {name for mark in marks if mark.name == "engines" for name in mark.args} == set(JOBS)


def test_an_engine_that_fails_says_why(tmp_path: Path, session_environment: dict[str, str]) -> None:
    job = Job({"model": str(tmp_path / "nothing"), "no_such_argument": 1}, ())
    with pytest.raises(EngineError, match=r"status 1: TypeError: .*no_such_argument.*; its log is "):
        run(job, tmp_path, session_environment)
