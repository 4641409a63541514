"""The training script: two steps of each phase write a checkpoint that loads."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from dgx_vllm.demo import train
from dgx_vllm.demo.corpus import TASKS
from dgx_vllm.demo.export import checkpoint_tensors, quantized_modules
from dgx_vllm.demo.quantized import checkpoint_parameters
from dgx_vllm.demo.training_module import DemoModel
from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize
from dgx_vllm.formats.nvfp4.modelopt import quantize_tensors


def test_a_short_run_writes_a_whole_checkpoint_and_says_how_good_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "TOKENIZER_DOCUMENTS", 1500)
    monkeypatch.setattr(train, "CALIBRATION_BATCHES", 1)
    monkeypatch.setattr(train, "BATCH_SIZE", 2)
    monkeypatch.setattr(train, "QUESTIONS", 2)
    phases = (train.Phase(2, 1e-3, quantized=False, seed=1), train.Phase(2, 1e-3, quantized=True, seed=2))
    train.build(tmp_path, torch.device("cpu"), phases)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("model.safetensors", "config.json", "hf_quant_config.json", "generation_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 512
    said = capsys.readouterr().out
    for task in ("sequences", *TASKS, "continuations"):
        assert re.search(rf"^{task} +\d+\.\d% +\d+\.\d%$", said, re.MULTILINE)


def test_quantization_aware_weights_are_those_of_the_checkpoint() -> None:
    torch.manual_seed(0)
    model = DemoModel()
    seen = checkpoint_parameters(model.lm)
    tensors = checkpoint_tensors(model.lm, model.mtp)
    modules = quantized_modules(tensors)
    stored = quantize_tensors(tensors, modules, dict.fromkeys(modules, torch.tensor(1.0)))

    def written(module: str) -> torch.Tensor:
        parts = (stored[f"{module}.{name}"] for name in ("weight", "weight_scale", "weight_scale_2"))
        return dequantize(Nvfp4Tensor(*parts))

    prefix = "model.layers.1.mlp"
    gate_up = seen[f"{prefix}.experts.gate_up_proj"]
    for expert in range(gate_up.shape[0]):
        pair = [written(f"{prefix}.experts.{expert}.{leaf}_proj") for leaf in ("gate", "up")]
        torch.testing.assert_close(gate_up[expert], torch.cat(pair), rtol=1e-6, atol=1e-8)
    for leaf in ("gate", "up", "down"):
        name = f"{prefix}.shared_expert.{leaf}_proj"
        torch.testing.assert_close(seen[f"{name}.weight"], written(name), rtol=1e-6, atol=1e-8)
    head = seen["lm_head.weight"]
    assert torch.equal(head, stored["lm_head.weight"].float())
    assert not torch.equal(head, model.lm.lm_head.weight)
