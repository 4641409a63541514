"""The memory guard: it never promises what is not there, and says why it refuses."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.demo.paths import CHECKPOINT
from dgx_vllm.host import meminfo
from dgx_vllm.host.machine import GIB, Gpu, Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import cache, guard, overheads
from dgx_vllm.plan.budget import Budget
from dgx_vllm.plan.cache import Options
from dgx_vllm.plan.guard import Subject, Terms, compile_jobs, judge
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.overheads import Overhead
from dgx_vllm.plan.weights import Loading
from dgx_vllm.profiles import profile
from dgx_vllm.util.errors import UserError
from helpers.header_checkpoints import write

GB = 10**9
QWEN = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"


def budgets() -> st.SearchStrategy[Budget]:
    return st.builds(
        Budget,
        available=st.integers(0, 200 * GB),
        origin=st.just("MemAvailable"),
        reserve=st.integers(0, 20 * GB),
        weights=st.integers(0, 120 * GB),
        overheads=st.builds(
            lambda size: (Overhead("all", size, "drawn"),), st.integers(min_value=0, max_value=10 * GB)
        ),
    )


def terms() -> st.SearchStrategy[Terms]:
    return st.builds(
        Terms,
        context=st.none() | st.integers(1, 262144),
        sequences=st.integers(1, 1024),
        given=st.none() | st.integers(1, 100 * GB),
        wanted=st.just(0) | st.integers(1, 100 * GB),
        ceiling=st.none() | st.integers(0, 200 * GB),
    )


@given(budget=budgets(), asked=terms(), known=st.booleans())
def test_no_more_is_promised_than_there_is(
    qwen3_next: Model, budget: Budget, asked: Terms, known: bool
) -> None:
    kept = cache.of(qwen3_next.architecture, Options(cache_dtype="fp8")) if known else None
    verdict = judge(budget, kept, asked)
    if verdict.refusal is None:
        assert verdict.taken <= budget.available - budget.reserve
        if verdict.cache is not None and kept and asked.context:
            assert kept.sequences(verdict.cache, asked.context) >= 1
    if asked.given is not None and verdict.refusal is None:
        assert verdict.cache == asked.given


@given(budget=budgets(), asked=terms())
def test_more_memory_never_turns_a_start_into_a_refusal(
    qwen3_next: Model, budget: Budget, asked: Terms
) -> None:
    kept = cache.of(qwen3_next.architecture, Options(cache_dtype="fp8"))
    here = judge(budget, kept, asked)
    there = judge(replace(budget, available=budget.available + GB), kept, asked)
    assert here.refusal is not None or there.refusal is None
    assert (here.cache or 0) <= (there.cache or 0) or there.refusal is not None


@given(budget=budgets(), asked=terms())
def test_a_refusals_sum_adds_up(qwen3_next: Model, budget: Budget, asked: Terms) -> None:
    kept = cache.of(qwen3_next.architecture, Options(cache_dtype="fp8"))
    refusal = judge(budget, kept, asked).refusal
    if refusal is None or "needs" not in refusal or "too small" in refusal:
        return
    line = re.search(
        r"needs (\S+) GB = weights (\S+) GB \+ overhead (\S+) GB \+ reserve (\S+) GB \+ KV cache (\S+) GB, "
        r"and (\S+) GB are available",
        refusal,
    )
    assert line is not None, refusal
    whole, *parts, available = (float(figure) for figure in line.groups())
    assert whole == pytest.approx(sum(parts), abs=0.26)  # five figures rounded to 0.1
    assert available <= whole + 0.1
    assert "\n" not in refusal


def test_the_remedy_is_a_context_that_fits(qwen3_next: Model) -> None:
    kept = cache.of(qwen3_next.architecture, Options(cache_dtype="fp8"))
    budget = Budget(62 * GB, "MemAvailable", 8 * GB, qwen3_next.bytes(False), (Overhead("all", 5 * GB, ""),))
    refusal = judge(budget, kept, Terms(context=262144, sequences=8)).refusal
    assert refusal is not None
    length = re.search(r"--max-model-len (\d+) or less", refusal)
    assert length is not None
    assert judge(budget, kept, Terms(int(length[1]), 8)).refusal is None
    assert judge(budget, kept, Terms(int(length[1]) + 1, 8)).refusal is not None


@given(cpus=st.integers(1, 256), available=st.integers(0, 200 * GB), taken=st.integers(0, 200 * GB))
def test_compile_jobs_fit_beside_the_model(cpus: int, available: int, taken: int) -> None:
    jobs = compile_jobs(cpus, available, taken)
    assert 1 <= jobs <= cpus
    assert jobs == 1 or jobs * overheads.COMPILE_JOB <= available - taken
    assert jobs == cpus or (jobs + 1) * overheads.COMPILE_JOB > available - taken


def test_twenty_compile_jobs_need_160_gib() -> None:
    """The figures of flashinfer-ai/flashinfer#3634 for a DGX Spark."""
    assert compile_jobs(20, 160 * GIB, 0) == 20
    assert compile_jobs(20, 160 * GIB - 1, 0) == 19


def test_available_is_the_kernels_estimate(tmp_path: Path) -> None:
    assert meminfo.available() == pytest.approx(psutil.virtual_memory().available, rel=0.1)
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       124000000 kB\nMemFree:  9 kB\nMemAvailable:   123456 kB\n")
    assert meminfo.available(file) == 123456 * 1024
    file.write_text("MemTotal:       124000000 kB\n")
    with pytest.raises(UserError, match="MemAvailable"):
        meminfo.available(file)


# --- in the launcher


def planned(
    machine: Machine, available: int, subject: Subject, environ: dict[str, str] | None = None, **flags: str
) -> Launch:
    words = {name.replace("_", "-"): value for name, value in flags.items()}
    request = Request(
        flags={"model": subject.profile.model if subject.profile else "owner/name", **words},
        environ=environ or {},
        profile=subject.profile,
        memory=Memory(available, None, subject),
    )
    return render(resolve(request, machine, frozenset()))


@pytest.fixture
def qwen(qwen3_next: Model) -> Subject:
    return Subject(qwen3_next, profile.by_model(QWEN))


def test_an_idle_spark(spark: Machine, qwen: Subject) -> None:
    """Bytes for what the profile's sequences need, the profile's share, and jobs for what is left."""
    launch = planned(spark, 110 * GB, qwen)
    assert launch.refusal is None
    kept = cache.of(qwen.model.architecture, Options(cache_dtype="fp8", drafts=2))  # type: ignore[union-attr]
    size = launch.settings["kv-cache-memory-bytes"]
    assert int(size.text) == kept.needed(65536, 8)
    assert size.origin == "memory guard"
    assert launch.settings["gpu-memory-utilization"].origin.startswith("profile")
    assert f"--kv-cache-memory-bytes {size.text}" in launch.command_line()
    jobs = next(each for each in launch.variables if each.name == "MAX_JOBS")
    taken = 47.4 + int(size.text) / GB + 6.5
    assert jobs.value == str(int((110 - taken) // 8))
    assert "memory guard" in jobs.why
    assert any("available 110.0 GB (MemAvailable) - reserve 8.0 GB" in note for note in launch.notes)


def test_a_busy_spark(spark: Machine, qwen: Subject) -> None:
    """vLLM would refuse the profile's share, 90 of 128.5 GB, although the model fits."""
    launch = planned(spark, 75 * GB, qwen)
    assert launch.refusal is None
    share = launch.settings["gpu-memory-utilization"]
    assert share.origin == "memory guard"
    assert float(share.text) * spark.memory <= 67 * GB
    assert ("0.7", share) in [(each.loser.text, each.winner) for each in launch.overruled]


def test_a_model_beyond_the_available_memory_is_refused(spark: Machine, qwen: Subject) -> None:
    launch = planned(spark, 50 * GB, qwen)
    assert launch.refusal is not None
    assert launch.refusal.startswith("the model does not fit: it needs ")
    assert "50.0 GB are available (MemAvailable)" in launch.refusal


def test_what_the_user_says_counts(spark: Machine, qwen: Subject) -> None:
    environ = {"MAX_JOBS": "3"}
    launch = planned(spark, 110 * GB, qwen, environ, kv_cache_memory_bytes="20000000000")
    assert launch.settings["kv-cache-memory-bytes"].text == "20000000000"
    assert "MAX_JOBS" not in {each.name for each in launch.variables}
    share = planned(spark, 110 * GB, qwen, gpu_memory_utilization="0.8")
    assert share.settings["gpu-memory-utilization"].text == "0.8"
    assert "kv-cache-memory-bytes" not in share.settings
    too_much = planned(spark, 110 * GB, qwen, kv_cache_memory_bytes="90000000000")
    assert "lower --kv-cache-memory-bytes" in (too_much.refusal or "")
    too_little = planned(spark, 110 * GB, qwen, kv_cache_memory_bytes="100000000")
    assert "too small" in (too_little.refusal or "")


def test_drafts_load_their_layer(spark: Machine, qwen: Subject) -> None:
    drafts = '{"method": "mtp", "num_speculative_tokens": 2}'
    notes = planned(spark, 110 * GB, qwen, speculative_config=drafts).notes
    assert any("weights 50.7 GB" in note for note in notes)


def test_the_80b_is_refused_on_the_cpu_before_it_is_fetched(laptop: Machine) -> None:
    """By its profile's size alone: nothing of it is here."""
    launch = planned(laptop, 23 * GB, Subject(None, profile.by_model(QWEN)))
    assert launch.refusal is not None
    assert "weights 50.7 GB" in launch.refusal


def test_the_demo_fits_small_machines(laptop: Machine) -> None:
    known = profile.by_model("demo")
    subject = guard.survey(str(CHECKPOINT), {}, known)
    launch = planned(laptop, 4 * GB, subject)
    assert launch.refusal is None
    assert launch.settings["kv-cache-memory-bytes"].origin == "profile demo"
    assert "MAX_JOBS" not in {each.name for each in launch.variables}


def test_the_cpus_default_cache_shrinks_to_what_is_there(laptop: Machine) -> None:
    subject = guard.survey(str(CHECKPOINT), {}, None)
    roomy = planned(laptop, 30 * GB, subject)
    assert roomy.settings["kv-cache-memory-bytes"].text == str(4 * 2**30)
    tight = planned(laptop, 6 * GB, subject)
    assert 2 * GB < int(tight.settings["kv-cache-memory-bytes"].text) < 3 * GB
    assert tight.refusal is None


def test_what_is_unknown_is_not_guarded(spark: Machine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    subject = guard.survey(str(tmp_path), {}, None)
    launch = planned(spark, 115 * GB, subject)
    assert launch.refusal is None
    assert "kv-cache-memory-bytes" not in launch.settings
    assert any("this start is not guarded" in note for note in launch.notes)
    # vLLM may take 0.75 of all memory, which leaves two jobs of 8 GiB.
    assert {each.name: each.value for each in launch.variables}["MAX_JOBS"] == "2"


def test_files_are_weighed_where_the_config_says_too_little(spark: Machine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    header = b'{"a.weight": {"dtype": "U8", "shape": [200000000000], "data_offsets": [0, 200000000000]}}'
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 200 * GB)  # a hole, which takes no disk
    launch = planned(spark, 110 * GB, guard.survey(str(tmp_path), {}, None))
    assert "weights 200.0 GB" in (launch.refusal or "")


@pytest.mark.parametrize("flags", [{"tensor_parallel_size": "2", "nnodes": "2"}])
def test_models_spread_over_machines_are_not_guarded(
    spark: Machine, qwen: Subject, flags: dict[str, Any]
) -> None:
    launch = planned(spark, 30 * GB, qwen, **flags)
    assert launch.refusal is None


def test_a_gpu_with_memory_of_its_own_is_vllms(spark: Machine, qwen: Subject) -> None:
    apart = replace(spark, gpus=(Gpu("NVIDIA H100", 80 * GB),))
    assert not guard.guards(apart)
    launch = planned(apart, 30 * GB, qwen)
    assert launch.refusal is None
    assert "kv-cache-memory-bytes" not in launch.settings


@pytest.mark.parametrize(
    ("dtype", "drafting", "number"),
    [("bfloat16", False, 2), ("bfloat16", True, 2), ("float32", False, 4), ("float16", True, 2)],
)
@pytest.mark.parametrize("stored", ["BF16", "F32"])
def test_a_start_is_charged_what_vllm_loads(
    tmp_path: Path, dtype: str, drafting: bool, number: int, stored: str
) -> None:
    """GLM's draft layer is numbered on from the model's; a checkpoint in float32 is cast to --dtype."""
    config = {
        **{"model_type": "glm4_moe", "num_hidden_layers": 1, "num_nextn_predict_layers": 1},
        **{"dtype": {"BF16": "bfloat16", "F32": "float32"}[stored]},
    }
    own = {
        "model.embed_tokens.weight": (stored, (256, 64)),
        "model.layers.0.mlp.up_proj.weight": (stored, (64, 64)),
    }
    draft = {"model.layers.1.eh_proj.weight": (stored, (64, 128))}
    directory = write(tmp_path, config, {**own, **draft})
    charged = guard.survey(str(directory), {}, None).weights(drafting, Loading(dtype=dtype))
    assert charged == ((256 * 64 + 64 * 64 + 64 * 128 * drafting) * number, "the files")
