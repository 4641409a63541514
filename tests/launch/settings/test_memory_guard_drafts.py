"""A draft model's weights and KV cache in the memory guard: by its config, its files or known sizes."""

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
from dgx_vllm.plan import cache, guard, model, source
from dgx_vllm.plan.architecture import Attention
from dgx_vllm.plan.cache import Options
from dgx_vllm.plan.guard import Subject
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.util.amounts import gb
from helpers.draft_configs import EAGLE3_GPT_OSS

GB = 10**9
GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "hidden_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "intermediate_size": 2880,
    "sliding_window": 128,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
SERVED = model.understand(source.Source("owner/name", GPT_OSS))
#: Of one sequence of 32768 tokens.
ARGUMENTS = {"max-model-len": "32768", "max-num-seqs": "1"}


def planned(machine: Machine, draft: dict[str, object], *, served: str = "owner/name") -> Launch:
    subject = (
        Subject(SERVED, None)
        if served == "owner/name"
        else guard.survey(served, {"HF_HOME": "/nonexistent"}, None)
    )
    config = {"num_speculative_tokens": 3, **draft}
    request = Request(
        flags={"model": served, **ARGUMENTS, "speculative-config": json.dumps(config)},
        environ={"HF_HOME": "/nonexistent"},
        memory=Memory(112 * GB, None, subject),
    )
    return render(resolve(request, machine, frozenset({"HF_HOME"})))


def weights(launch: Launch) -> str:
    return launch.notes[0].split(" - weights ")[1].split(" - ")[0]


def test_a_draft_model_s_config_is_enough(spark: Machine, tmp_path: Path) -> None:
    """EAGLE-3's weights, its head among them, and one layer more with a KV cache."""
    (tmp_path / "config.json").write_text(json.dumps(EAGLE3_GPT_OSS))
    launch = planned(spark, {"method": "eagle3", "model": str(tmp_path)})
    matrices = 215_470_080 + 201_088 * 2880
    norms = 5 * 2880
    assert weights(launch) == gb(SERVED.bytes(drafting=False) + 2 * (matrices + norms))
    kept = cache.of(SERVED.architecture, Options(drafts=3), (Attention(1, 8, 64),))
    assert launch.settings["kv-cache-memory-bytes"].text == str(kept.needed(32768, 1))
    assert not any("unknown" in note for note in launch.notes)


def test_a_draft_model_with_known_sizes_counts_before_it_is_downloaded(spark: Machine) -> None:
    name, drafter = "openai/gpt-oss-120b", "z-lab/gpt-oss-120b-DFlash"
    sizes, of_drafts = model_sizes.by_model(name), model_sizes.by_model(drafter)
    assert sizes is not None
    assert of_drafts is not None
    launch = planned(spark, {"method": "dflash", "model": drafter}, served=name)
    # vLLM copies the key and value matrices of its eight layers into one.
    copied = 8 * 2 * 8 * 64 * 2880 * 2
    served = guard.survey(name, {"HF_HOME": "/nonexistent"}, None).weights(False, guard.Loading(hidden=2880))
    assert served is not None
    assert weights(launch) == gb(served[0] + of_drafts.bytes + copied)
    assert not any("unknown" in note for note in launch.notes)


@pytest.mark.parametrize("more", [{}, {"kv_cache_dtype": "fp8"}])
def test_what_is_not_known_is_said(spark: Machine, tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(EAGLE3_GPT_OSS if more else {"model_type": "new"}))
    launch = planned(spark, {"method": "eagle3", "model": str(tmp_path), **more})
    cause = f"unknown with drafts by {tmp_path}; vLLM finds out whether one fits"
    assert f"memory: the size of a sequence is {cause}" in launch.notes
    unknown = f"memory: what drafts by {tmp_path} load is unknown and not counted"
    assert (unknown in launch.notes) == (not more)


def test_the_drafts_revision_is_looked_up(monkeypatch: pytest.MonkeyPatch, spark: Machine) -> None:
    asked = []
    from dgx_vllm.checkpoints import checkpoint

    def snapshot(model: str, cache: Path, revision: str | None = None, reading: object = None) -> Path | None:
        asked.append((model, revision))
        return None

    monkeypatch.setattr(checkpoint, "snapshot", snapshot)
    planned(spark, {"method": "eagle3", "model": "owner/draft", "revision": "abc"})
    assert ("owner/draft", "abc") in asked
    assert ("owner/draft", None) not in asked
