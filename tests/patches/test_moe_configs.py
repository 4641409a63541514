"""Tuned configurations of the Triton MoE kernel: which GB10 has, and how a missing one is given."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from vllm.model_executor.layers.fused_moe.fused_moe import get_config_file_name, get_moe_configs

# Qwen3-Next-80B-A3B: experts and their intermediate size.
EXPERTS, WIDTH = 512, 512


@pytest.fixture(autouse=True)
def nothing_remembered(on_gb10: None) -> Iterator[None]:
    get_moe_configs.cache_clear()
    yield
    get_moe_configs.cache_clear()


def test_fp8_in_blocks_has_a_configuration_for_gb10() -> None:
    """As Qwen's own FP8 checkpoints are quantized."""
    configs = get_moe_configs(EXPERTS, WIDTH, "fp8_w8a8", 128, 128)
    assert configs
    assert min(configs) == 1


def test_a_configuration_for_gb10_that_vllm_lacks_is_read_from_the_tuned_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Per-tensor FP8 has none upstream; when this begins to fail, published.toml needs another verdict."""
    assert get_moe_configs(EXPERTS, WIDTH, "fp8_w8a8") is None
    name = get_config_file_name(EXPERTS, WIDTH, "fp8_w8a8")
    assert name == "E=512,N=512,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json"
    config = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 1}
    (tmp_path / name).write_text(json.dumps({"triton_version": "3", "1": config}))
    monkeypatch.setenv("VLLM_TUNED_CONFIG_FOLDER", str(tmp_path))
    get_moe_configs.cache_clear()
    assert get_moe_configs(EXPERTS, WIDTH, "fp8_w8a8") == {1: config}
