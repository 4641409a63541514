"""What an engine for passes over a text takes of memory, and what vLLM is told of it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.evaluation import engine, engine_memory
from dgx_vllm.host import machine

GB = 10**9


def checkpoint(directory: Path, *sizes: int) -> Path:
    """Files of these sizes without a byte in them; the index names all but a last one."""
    directory.mkdir()
    names = [f"{i}.safetensors" for i in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        with (directory / name).open("wb") as file:
            file.truncate(size)
    index = {"weight_map": {name: name for name in names[:-1] or names}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def test_what_is_needed(tmp_path: Path) -> None:
    """Files that the index does not name are not loaded."""
    small, large = checkpoint(tmp_path / "small", GB, 7 * GB), checkpoint(tmp_path / "large", GB, 2 * GB, GB)
    assert engine_memory.needed(large, {}) - engine_memory.needed(small, {}) == 2 * GB
    assert engine_memory.needed(small, {}) > GB + engine_memory.CACHE_BYTES


def test_a_model_that_is_known_needs_its_activations_too(tmp_path: Path) -> None:
    size = (CHECKPOINT / "model.safetensors").stat().st_size
    unknown = engine_memory.needed(checkpoint(tmp_path / "model", size), {})
    assert engine_memory.needed(CHECKPOINT, {}) > unknown


@pytest.mark.parametrize(("needed", "share"), [(12 * GB, 0.1), (13 * GB, 0.11), (130 * GB, 1.0)])
def test_the_share_of_memory_is_what_is_needed_rounded_up(needed: int, share: float) -> None:
    assert engine_memory.share(needed, 120 * GB) == share


@pytest.mark.parametrize(("unified", "reserve"), [(True, 8 * GB), (False, 0)])
def test_vllm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unified: bool, reserve: int) -> None:
    """On unified memory the system keeps what `serve` leaves it."""
    monkeypatch.setattr(machine, "detect", lambda: SimpleNamespace(platform="cuda", unified=unified))
    given: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda **words: given.update(words)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 120 * GB))
    for name, value in engine._SETTINGS.items():
        monkeypatch.setenv(name, value)
    directory = checkpoint(tmp_path / "model", 48 * GB)
    engine.start(directory)
    assert given["kv_cache_memory_bytes"] == engine_memory.CACHE_BYTES
    assert given["gpu_memory_utilization"] == engine_memory.share(
        engine_memory.needed(directory, {}) + reserve, 120 * GB
    )
    assert 0.4 < given["gpu_memory_utilization"] - reserve / (120 * GB) < 0.5
