"""Where the memory guard does not know what a sequence keeps: it leaves the KV cache's size to vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import cache, model, outlook, source
from dgx_vllm.plan.guard import Subject
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from helpers.launching import LLAMA_8B, Run, write_safetensors

GB = 10**9
EAGLE = {"method": "eagle3", "model": "owner/draft", "num_speculative_tokens": 3}
YARN = {"rope_type": "yarn", "factor": 2.0}
UNKNOWN = sorted(set(flags.load().require("kv-cache-dtype", "").choices) - set(cache.DTYPES))


def planned(machine: Machine, available: int = 110 * GB, **given: object) -> Launch:
    """A launch; objects are written as JSON."""
    words: dict[str, Any] = {
        name.replace("_", "-"): json.dumps(value) if isinstance(value, dict) else value
        for name, value in given.items()
    }
    found = model.understand(source.Source("model", LLAMA_8B))
    request = Request(
        flags={"model": "owner/name", "max-num-seqs": "1", **words},
        environ={},
        memory=Memory(available, None, Subject(found, None)),
    )
    return render(resolve(request, machine, frozenset()))


def is_vllms(launch: Launch, cause: str) -> bool:
    """Whether vLLM sizes the KV cache, by a share that is there, and a note says why."""
    note = f"memory: the size of a sequence is unknown with {cause}; vLLM finds out whether one fits"
    return "kv-cache-memory-bytes" not in launch.settings and note in launch.notes and not launch.refusal


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"block_size": "256"}, "--block-size 256"),
        ({"kv_cache_dtype_skip_layers": ("0", "1")}, "--kv-cache-dtype-skip-layers 0 1"),
        ({"hf_overrides": {"num_hidden_layers": 64}}, "--hf-overrides"),
        ({"hf_overrides": {"rope_parameters": YARN}}, "--hf-overrides"),
        ({"hf_overrides": {"rope_parameters": YARN}, "max_model_len": "auto"}, "--hf-overrides"),
        ({"mamba_cache_dtype": "float32"}, "--mamba-cache-dtype float32"),
        ({"disable_hybrid_kv_cache_manager": True}, "--disable-hybrid-kv-cache-manager"),
        ({"speculative_config": EAGLE}, "drafts by owner/draft"),
        ({"speculative_config": {**EAGLE, "method": None}}, "drafts by owner/draft"),
        ({"speculative_config": {**EAGLE, "method": "mtp"}}, "drafts by owner/draft"),
        ({"spec_method": "eagle", "spec_model": "owner/draft", "spec_tokens": "2"}, "drafts by owner/draft"),
        (
            {"speculative_config": {"method": "extract_hidden_states", "num_speculative_tokens": 1}},
            "drafts by extract_hidden_states",
        ),
    ],
    ids=str,
)
def test_what_enlarges_a_sequence_is_vllms_to_count(
    spark: Machine, given: dict[str, Any], cause: str
) -> None:
    """By an exact size for one sequence vLLM would refuse to start."""
    launch = planned(spark, **given)
    assert is_vllms(launch, cause)
    assert float(launch.settings["gpu-memory-utilization"].text) * spark.memory <= 102 * GB


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dtype": "half"},
        {"mamba_cache_dtype": "auto"},
        {"disable_hybrid_kv_cache_manager": False},
        {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}},
        {"speculative_config": {"model": "ngram", "num_speculative_tokens": 3}},
        {"speculative_config": {"method": "suffix", "num_speculative_tokens": 3}},
        {"speculative_config": {"method": "mtp", "model": "owner/name", "num_speculative_tokens": 1}},
        {"speculative_config": {"model": "owner/name", "num_speculative_tokens": 1}},
        {"model": "/m", "speculative_config": {"method": "mtp", "model": "/m/", "num_speculative_tokens": 1}},
        {"hf_overrides": {"rope_parameters": YARN}, "max_model_len": "8192"},
    ],
    ids=str,
)
def test_what_does_not_is_counted_as_ever(spark: Machine, given: dict[str, Any]) -> None:
    launch = planned(spark, **given)
    # vLLM: 8192 tokens of 2 * 8 * 128 numbers in 32 layers, and a block.
    assert launch.settings["kv-cache-memory-bytes"].text == str((8192 + 16) * 2 * 8 * 128 * 2 * 32)
    assert not any("is unknown" in note for note in launch.notes)


@pytest.mark.parametrize("dtype", ["float32", "float"])
def test_float32_widens_what_a_sequence_keeps(spark: Machine, dtype: str) -> None:
    launch = planned(spark, dtype=dtype)
    assert launch.settings["kv-cache-memory-bytes"].text == str((8192 + 16) * 2 * 8 * 128 * 4 * 32)


def test_float32_widens_the_weights(spark: Machine) -> None:
    notes = [planned(spark, **given).notes[0] for given in ({}, {"dtype": "float32"})]
    assert ["weights 16.1 GB" in notes[0], "weights 32.1 GB" in notes[1]] == [True, True]


def test_a_draft_models_files_are_counted(spark: Machine, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a.weight": 3 * 10**8})
    here = planned(spark, speculative_config={**EAGLE, "model": str(tmp_path)})
    assert "weights 16.4 GB" in here.notes[0]
    assert not any("not counted" in note for note in here.notes)
    elsewhere = planned(spark, speculative_config=EAGLE)
    assert "weights 16.1 GB" in elsewhere.notes[0]
    assert "memory: what drafts by owner/draft load is unknown and not counted" in elsewhere.notes
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    assert "weights 16.1 GB" in planned(spark, speculative_config={**EAGLE, "model": str(tmp_path)}).notes[0]


def test_ones_own_size_counts(spark: Machine) -> None:
    launch = planned(spark, block_size="256", kv_cache_memory_bytes="2000000")
    assert launch.settings["kv-cache-memory-bytes"].text == "2000000"
    assert launch.refusal is None


def test_the_cpu_keeps_its_default(laptop: Machine) -> None:
    launch = planned(laptop, 32 * GB, block_size="256")
    assert launch.settings["kv-cache-memory-bytes"].text == str(4 * 2**30)


@pytest.mark.parametrize("dtype", UNKNOWN)
def test_every_cache_dtype_of_vllms_is_served(spark: Machine, dtype: str) -> None:
    assert is_vllms(planned(spark, kv_cache_dtype=dtype), f"a KV cache of {dtype}")


def test_a_cache_dtype_that_plan_does_not_know(dgx_vllm: Run, spark: Machine, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps(LLAMA_8B))
    outcome = dgx_vllm(
        "serve", str(checkpoint), "--dry-run", "--kv-cache-dtype", "int8_per_token_head", on=spark
    )
    assert outcome.status == 0
    assert "--kv-cache-dtype int8_per_token_head" in outcome.out
    with pytest.raises(UserError, match="the KV cache's dtype 'int8_per_token_head' is unknown"):
        outlook.of(
            model.understand(source.Source("model", LLAMA_8B)),
            None,
            PlanRequest(110 * GB, "given", cache_dtype="int8_per_token_head"),
        )
