"""A small checkpoint in two files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dgx_vllm.formats.nvfp4 import quantize
from helpers.text_fixtures import command, demo_text

__all__ = ["calibration", "checkpoint", "command", "demo_text"]

HIDDEN, INNER, EXPERTS = 64, 32, 10


def config() -> dict[str, Any]:
    return {
        "model_type": "qwen3_next",
        "hidden_act": "silu",
        "num_experts_per_tok": 2,
        "quantization_config": {"quant_algo": "NVFP4", "quant_method": "modelopt", "ignore": []},
    }


def write_checkpoint(directory: Path) -> Path:
    """Ten experts and a shared one; expert 3's weights and scales lie in different files."""
    g = torch.Generator().manual_seed(0)
    prefix = "model.layers.0"
    files: list[dict[str, torch.Tensor]] = [{}, {}]

    def put(module: str, rows: int, columns: int, weights: int, scales: int) -> None:
        tensor = quantize(torch.randn(rows, columns, generator=g) / columns**0.5)
        files[weights][f"{module}.weight"] = tensor.weight
        files[scales][f"{module}.weight_scale"] = tensor.weight_scale
        files[scales][f"{module}.weight_scale_2"] = tensor.weight_scale_2
        files[scales][f"{module}.input_scale"] = torch.tensor(0.01)

    names = [(f"experts.{i}", int(i > 3), int(i > 2)) for i in range(EXPERTS)] + [("shared_expert", 1, 1)]
    for name, weights, scales in names:
        for leaf in ("gate_proj", "up_proj"):
            put(f"{prefix}.mlp.{name}.{leaf}", INNER, HIDDEN, weights, scales)
        put(f"{prefix}.mlp.{name}.down_proj", HIDDEN, INNER, weights, scales)
    files[0][f"{prefix}.post_attention_layernorm.weight"] = torch.rand(HIDDEN, generator=g).bfloat16()
    files[1][f"{prefix}.mlp.gate.weight"] = torch.randn(EXPERTS, HIDDEN, generator=g).bfloat16()
    files[1]["lm_head.weight"] = torch.randn(96, HIDDEN, generator=g).bfloat16()
    directory.mkdir()
    where = {}
    for i, tensors in enumerate(files):
        name = f"model-{i + 1:05}-of-00002.safetensors"
        save_file(tensors, directory / name, metadata={"format": "pt"})
        where |= dict.fromkeys(tensors, name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (directory / "config.json").write_text(json.dumps(config()))
    older = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": []}}
    (directory / "hf_quant_config.json").write_text(json.dumps(older))
    (directory / "tokenizer.json").write_text("{}")
    return directory


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Inputs of 300 tokens, correlated."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(300, 16, generator=g) @ torch.randn(16, HIDDEN, generator=g)
    path = tmp_path / "calibration.safetensors"
    save_file({"layers.0.mlp.experts": x.bfloat16()}, path)
    return path
