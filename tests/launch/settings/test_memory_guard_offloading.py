"""--kv-offloading-size: on unified memory, what a KV cache is offloaded to is the model's memory too."""

import re
from typing import Any

import pytest

from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import model, outlook, source
from dgx_vllm.plan.guard import Subject
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from helpers.launching import LLAMA_8B

GB = 10**9
MODEL = model.understand(source.Source("model", LLAMA_8B))


def planned(machine: Machine, available: int = 110 * GB, serve: Any = None, **flags: str) -> Launch:
    profile = Profile(model="owner/name", summary="", memory_gib=1.0, serve=serve or {}, name="own")
    request = Request(
        flags={"model": "owner/name", **{name.replace("_", "-"): value for name, value in flags.items()}},
        environ={},
        profile=profile,
        memory=Memory(available, None, Subject(MODEL, profile)),
    )
    return render(resolve(request, machine, frozenset()))


def figures(launch: Launch) -> tuple[float, float]:
    """GB of overhead, and of what is left for the KV cache."""
    (note,) = [note for note in launch.notes if note.startswith("memory: available")]
    found = re.search(r"overhead (\S+) GB = (\S+) GB for the KV cache", note)
    assert found is not None
    return float(found[1]), float(found[2])


def test_it_is_taken_from_the_kv_cache(spark: Machine) -> None:
    plain, offloading = planned(spark), planned(spark, kv_offloading_size="60")
    gained = 60 * GIB / GB
    assert figures(offloading)[0] - figures(plain)[0] == pytest.approx(gained, abs=0.11)
    assert figures(plain)[1] - figures(offloading)[1] == pytest.approx(gained, abs=0.11)
    sizes = [int(each.settings["kv-cache-memory-bytes"].text) for each in (plain, offloading)]
    assert sizes[1] < sizes[0] - 50 * GB
    jobs = [
        next(int(str(each.value)) for each in launch.variables if each.name == "MAX_JOBS")
        for launch in (
            planned(spark, max_num_seqs="8"),
            planned(spark, max_num_seqs="8", kv_offloading_size="60"),
        )
    ]
    assert jobs[0] - jobs[1] == pytest.approx(gained // 8, abs=1)


def test_the_share_that_vllm_wants_free_does_not_cover_it(spark: Machine) -> None:
    share = planned(spark, kv_offloading_size="60").settings["gpu-memory-utilization"]
    assert share.origin == "memory guard"
    assert float(share.text) * spark.memory <= 102 * GB - 60 * GIB


def test_a_profiles_share_does_not_either(spark: Machine) -> None:
    """What the server may take by it is what it may take beside the buffer."""
    serve = {"gpu-memory-utilization": 0.25, "max-num-seqs": 1024}
    sizes = [
        int(planned(spark, serve=serve, **flags).settings["kv-cache-memory-bytes"].text)
        for flags in ({}, {"kv_offloading_size": "20"})
    ]
    assert sizes[0] == sizes[1]


def test_too_much_is_refused(spark: Machine) -> None:
    refusal = planned(spark, kv_offloading_size="90").refusal or ""
    assert "it would with less offloaded: lower --kv-offloading-size, or free memory" in refusal
    assert planned(spark, kv_offloading_size="60").refusal is None


def test_a_share_of_ones_own_and_the_buffer_must_fit(spark: Machine) -> None:
    """vLLM checks its share alone."""
    words = {"gpu_memory_utilization": "0.74"}
    refusal = planned(spark, kv_offloading_size="60", **words).refusal
    assert refusal == (
        "--gpu-memory-utilization asks for 95.1 GB, and --kv-offloading-size, which comes on top, leaves "
        "37.6 GB = available 110.0 GB (MemAvailable) - reserve 8.0 GB - offloaded 64.4 GB; "
        "lower one of the two"
    )
    assert planned(spark, kv_offloading_size="5", **words).refusal is None
    assert planned(spark, 90 * GB, **words).refusal is None  # vLLM's to refuse


def test_lmcaches_memory_is_another_servers(spark: Machine) -> None:
    other = planned(spark, kv_offloading_size="60", kv_offloading_backend="lmcache")
    assert figures(other) == figures(planned(spark))


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf"])
def test_a_size_that_is_none(spark: Machine, size: str) -> None:
    with pytest.raises(
        UserError, match=f"--kv-offloading-size {size} is out of range: it must be above 0 GiB"
    ):
        planned(spark, kv_offloading_size=size)


def test_plan_counts_a_profiles() -> None:
    profile = Profile(
        model="owner/name", summary="", memory_gib=1.0, serve={"kv-offloading-size": 2.5}, name="own"
    )
    wish = PlanRequest(110 * GB, "given")
    plain, offloading = (outlook.of(MODEL, each, wish).budget for each in (None, profile))
    assert offloading.offloaded == int(2.5 * GIB)
    assert plain.cache - offloading.cache == offloading.offloaded
