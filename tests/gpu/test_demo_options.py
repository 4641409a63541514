"""The trained demo on a GPU: every option on and off says the same, and keeps as many drafts."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from engines import DEMOS, Engines, demo, on_cpu, run
from layer_probes import BOUND
from taught import check_text

_ALL = tuple(f"demo, {name}" for name in DEMOS)
_OURS = ("DecodeExperts", "SlicedExperts")

Record = Callable[[str, object], None]


def on_gpu(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def marked(test: Callable[..., None]) -> Callable[..., None]:
        return pytest.mark.gpu(pytest.mark.engine(pytest.mark.engines(*names)(test)))

    return marked


@pytest.mark.parametrize("name", _ALL)
@on_gpu(*_ALL)
def test_text_is_the_taught_one(name: str, engines: Engines) -> None:
    """So it is the same with every option, together and alone, with drafts and without."""
    check_text(engines.answer(name))


@on_gpu(*_ALL)
def test_as_many_drafts_are_kept(engines: Engines, record_property: Record) -> None:
    found = {name: engines.answer(name).drafts for name in _ALL if name.endswith("drafts")}
    for name, (steps, drafted, accepted) in found.items():
        record_property(name, f"{accepted} of {drafted} drafts accepted in {steps} steps")
    assert len(set(found.values())) == 1
    steps, drafted, accepted = next(iter(found.values()))
    assert 0 < accepted <= drafted
    assert all(engines.answer(name).drafts == (0, 0, 0) for name in _ALL if not name.endswith("drafts"))


@on_gpu(*_ALL)
def test_the_options_are_on(engines: Engines) -> None:
    """The demo's sizes suit both: multiples of 64 for experts, of 16 for FP8."""
    for name in _ALL:
        classes, ours = set(engines.answer(name).experts[0].values()), "dgx" in name
        assert (classes <= set(_OURS)) if ours else not classes & set(_OURS), name
        log = engines.log(name)
        assert ("moe_backend 'dgx': moe_decode for 1 to 16 tokens" in log) == ours, name
        assert ("shared expert is one more slot of moe_decode" in log) == ours, name
        assert ("linear_backend 'dgx': linear_decode for 1 to 16 tokens" in log) == ours, name
        assert ("a draft's experts become NVFP4" in log) == ("fp8, drafts" in name), name
        assert ("dense_dtype fp8: E4M3 with a scale for each output" in log) == ("fp8" in name), name


@on_gpu("demo, dgx")
def test_a_layers_output_is_float64s(engines: Engines, record_property: Record) -> None:
    """With the shared expert as one more slot."""
    found = engines.answer("demo, dgx").figures
    for each in found:
        record_property(f"{each.case}, {each.tokens} tokens", f"relative L2 {each.error:.2e}")
    assert found
    assert max(each.error for each in found) < BOUND
    assert all(each.repeats for each in found)


@pytest.mark.engine
def test_these_tests_hold_on_the_cpu(session_environment: dict[str, str], tmp_path: Path) -> None:
    """Where the backend of that name is the reference path: an engine is asked, and answers, as on a GPU."""
    job = on_cpu(demo(moe_backend="dgx", linear_backend="dgx"))
    answer, log = run(job, tmp_path, session_environment)
    check_text(answer)
    assert (answer.drafts, answer.figures) == ((0, 0, 0), ())
    assert [len(each) for each in answer.experts] == [4]
    assert "Using CpuNvFp4LinearKernel" in log
