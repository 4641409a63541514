"""`dgx-vllm eval`: its figures against numpy's, what it refuses, and the demo through vLLM."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.evaluation import divergence, quantized_view
from dgx_vllm.evaluation.divergence import Subject
from dgx_vllm.formats.nvfp4 import dequantize, quantize
from helpers.processes import await_end, written
from helpers.text_fixtures import Command

Run = Callable[..., tuple[int, str, str]]

IGNORED = ["model.layers.0.linear_attn.in_proj_qkvz", "model.layers.0.self_attn.q_proj"]


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).bfloat16()


def write(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "qwen3_next", "quantization_config": {"quant_method": "modelopt"}}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def plain() -> dict[str, torch.Tensor]:
    """A projection behind a norm, one without, one that FP8 does not take by its size, experts, a router."""
    found = {
        "model.layers.0.linear_attn.in_proj_qkvz.weight": drawn(96, 64, 0),
        "model.layers.0.self_attn.q_proj.weight": drawn(32, 48, 1),
        "model.layers.0.self_attn.k_proj.weight": drawn(32, 40, 1),
        "model.layers.0.input_layernorm.weight": drawn(1, 64, 2)[0],
        "model.layers.0.mlp.gate.weight": drawn(2, 64, 3),
    }
    for expert in range(2):
        found[f"model.layers.0.mlp.experts.{expert}.up_proj.weight"] = drawn(32, 64, 4 + expert)
    return found


@pytest.fixture
def quantized(plain: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with its experts in NVFP4."""
    found = dict(plain)
    for expert in range(2):
        name = f"model.layers.0.mlp.experts.{expert}.up_proj.weight"
        tensor = quantize(found.pop(name).float())
        found[name] = tensor.weight
        found[f"{name}_scale"] = tensor.weight_scale
        found[f"{name}_scale_2"] = tensor.weight_scale_2
    return found


def layers(outcome: tuple[int, str, str]) -> dict[str, Any]:
    assert outcome[0] == 0, outcome[2]
    return {each["name"]: each for each in json.loads(outcome[1])["layers"]}


def as_numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.double().numpy()


def fitted(weight: np.ndarray) -> np.ndarray:
    """Each row's largest magnitude becomes that of eight E4M3 values which leaves the least squared error."""
    best, least = np.zeros_like(weight), np.full(len(weight), np.inf)
    for peak in (448, 416, 384, 352, 320, 288, 256, 240):
        scale = (np.abs(weight).max(axis=1, keepdims=True) / peak).astype(np.float32)
        found = (weight / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
        error = ((found - weight) ** 2).sum(axis=1)
        best[error < least] = found[error < least]
        least = np.minimum(error, least)
    return best


def test_fp8_is_what_ml_dtypes_makes_of_it(
    run: Run, tmp_path: Path, quantized: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small that a matrix comes in many parts, the last of them shorter.
    monkeypatch.setattr(quantized_view, "_CHUNK", 64 * 7)
    found = layers(run("eval", write(tmp_path / "c", quantized), "--dense-dtype", "fp8", "--json"))
    assert list(found) == IGNORED
    for module in IGNORED:
        weight = as_numbers(quantized[f"{module}.weight"])
        wrong = fitted(weight) - weight
        error = np.linalg.norm(wrong) / np.linalg.norm(weight)
        assert found[module]["error"] == pytest.approx(error, rel=1e-3)
        assert (found[module]["before"], found[module]["after"]) == ("BF16", "FP8")
        coarse = dequantize(quantize(torch.from_numpy(weight).float())).double().numpy() - weight
        assert found[module]["nvfp4"] == pytest.approx(
            np.linalg.norm(coarse) / np.linalg.norm(weight), rel=1e-5
        )
        assert found[module]["share"] == pytest.approx((error / found[module]["nvfp4"]) ** 2, rel=1e-3)
        if module.endswith("in_proj_qkvz"):
            rms = np.abs(1 + as_numbers(quantized["model.layers.0.input_layernorm.weight"]))
            output = np.linalg.norm(wrong * rms) / np.linalg.norm(weight * rms)
            assert found[module]["output"] == pytest.approx(output, rel=1e-3)
        else:  # its norm is of another size
            assert found[module]["output"] is None


def test_against_another_checkpoint_experts_count_as_one(
    run: Run, tmp_path: Path, plain: dict[str, torch.Tensor], quantized: dict[str, torch.Tensor]
) -> None:
    whole, small = write(tmp_path / "bf16", plain), write(tmp_path / "nvfp4", quantized)
    (found,) = layers(run("eval", small, "--against", whole, "--json")).values()
    assert found["name"] == "model.layers.0.mlp.experts.*.up_proj"
    assert (found["matrices"], found["before"], found["after"]) == (2, "BF16", "NVFP4")
    weights = [as_numbers(plain[f"model.layers.0.mlp.experts.{i}.up_proj.weight"]) for i in range(2)]
    wrong = [dequantize(quantize(torch.from_numpy(w).float())).double().numpy() - w for w in weights]
    error = math.sqrt(sum((w**2).sum() for w in wrong) / sum((w**2).sum() for w in weights))
    assert found["error"] == pytest.approx(error, rel=1e-5)
    assert found["share"] == pytest.approx(1)
    both = layers(run("eval", small, "--against", whole, "--dense-dtype", "fp8", "--json"))
    assert set(both) == {*IGNORED, "model.layers.0.mlp.experts.*.up_proj"}


def test_the_table_names_the_models_and_their_projections(run: Run) -> None:
    status, out, _ = run("eval", "demo", "--dense-dtype", "fp8")
    assert status == 0
    assert out.startswith("demo --dense-dtype fp8, against itself without it\n")
    assert "mtp.layers.0.self_attn.q_proj" in out


def refused(outcome: tuple[int, str, str], *said: str) -> None:
    assert outcome[0] == 2, outcome
    assert outcome[1] == ""
    (line,) = outcome[2].splitlines()
    for words in (*said, ";"):
        assert words in line


def test_models_that_cannot_be_compared_are_refused(
    run: Run, tmp_path: Path, plain: dict[str, torch.Tensor], quantized: dict[str, torch.Tensor]
) -> None:
    whole, small = write(tmp_path / "bf16", plain), write(tmp_path / "nvfp4", quantized)
    refused(run("eval", small), "nothing to measure", "--dense-dtype")
    refused(run("eval", small, "--against", small), "no matrix", "another precision")
    refused(run("eval", small, "--dense-dtype", "fp8", "--text", tmp_path / "none"), "No such file")
    refused(run("eval", small / "config.json", "--dense-dtype", "fp8"), "is a file")
    refused(run("eval", tmp_path / "nowhere", "--dense-dtype", "fp8"), "does not exist; give")
    other = dict(plain)
    other["model.layers.0.mlp.experts.0.up_proj.weight"] = drawn(16, 64, 4)
    refused(
        run("eval", small, "--against", write(tmp_path / "other", other)), "give checkpoints of one model"
    )
    cut = whole / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    refused(run("eval", small, "--against", whole), "truncated or damaged")


@pytest.fixture
def engine(tmp_path: Path) -> tuple[Path, Path]:
    """A program in vLLM's place that would go on for long, and the file that says which process it is."""
    program, file = tmp_path / "engine", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ > {file}\nexec sleep 3600\n")
    program.chmod(0o755)
    return program, file


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_engine(
    number: int, engine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> None:
        written(engine[1])
        os.kill(os.getpid(), number)

    monkeypatch.setattr(sys, "executable", str(engine[0]))
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL if before is signal.SIG_IGN else before)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            divergence.score(Subject(tmp_path), tmp_path / "text", tmp_path / "out", 8, "")
    finally:
        asking.join()
        signal.signal(number, before)
    await_end(written(engine[1]))


def test_an_engine_ends_with_a_command_that_is_killed(engine: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing of ours runs any more that could end it."""
    script = (
        "import sys; from pathlib import Path; from dgx_vllm.evaluation import divergence;"
        " sys.executable, here = sys.argv[1], Path(sys.argv[2]);"
        " divergence.score(divergence.Subject(here), here / 'text', here / 'out', 8, '')"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    words = [sys.executable, "-c", script, str(engine[0]), str(tmp_path)]
    killed = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": path})
    started = written(engine[1])
    killed.kill()
    killed.wait()
    await_end(started)


@pytest.mark.engine
def test_the_demo_in_fp8_nearly_agrees_with_itself(
    command: Command, demo_text: Path, record_property: Callable[[str, object], None]
) -> None:
    done = command("eval", CHECKPOINT, "--dense-dtype", "fp8", "--text", demo_text, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["text"]
    record_property("fp8", told)
    assert told["exact"]
    assert told["tokens"] > 300
    # Not the same model, and nearly: a lost layer or a wrong scale costs nats.
    assert 0 < told["kl"] < 0.1
    assert told["agreement"] > 0.9


@pytest.mark.engine
def test_a_model_that_vllm_does_not_run_is_one_line_with_the_reason(
    command: Command, demo_text: Path, tmp_path: Path, quantized: dict[str, torch.Tensor]
) -> None:
    """One line, with vLLM's reason."""
    directory = write(tmp_path / "model", quantized)
    done = command("eval", directory, "--dense-dtype", "fp8", "--text", demo_text)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"dgx-vllm: vLLM does not run {directory} here (")
    assert "Missing 'quant" in line  # the config names ModelOpt, and not what it did
    assert "dgx-vllm doctor" in line


def test_every_matrix_of_the_demo_is_known() -> None:
    stored = load_file(CHECKPOINT / "model.safetensors")
    matrices = {name for name, tensor in stored.items() if name.endswith(".weight") and tensor.dim() == 2}
    from dgx_vllm.evaluation.tensors import Tensors

    held = quantized_view.Served(Tensors(str(CHECKPOINT), {}))
    assert {f"{module}.weight" for module in held.matrices} == matrices
    assert held.unknown == 0


@pytest.mark.parametrize(
    ("module", "rows", "taken"),
    [
        ("lm_head", 1000, True),
        ("model.layers.3.self_attn.q_proj", 1000, False),
        ("model.layers.3.self_attn.q_proj", 1024, True),
    ],
)
def test_a_padded_lm_head_is_taken(module: str, rows: int, taken: bool) -> None:
    """vLLM pads its rows before they are quantized, and no other layer's."""
    option = quantized_view.option("nvfp4")
    assert option is not None
    assert option.targets(module, Stored("BF16", (rows, 128), (0, rows * 256))) == taken
