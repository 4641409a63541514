"""The study: FP8 costs less than a tenth of what NVFP4 does, also with outliers and heavy tails."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.evaluation import divergence, study, synthetic
from dgx_vllm.evaluation.divergence import Subject
from dgx_vllm.evaluation.tensors import Tensors
from dgx_vllm.formats.nvfp4 import dequantize, quantize

#: Of FP8's squared relative error to NVFP4's.
ERROR_SHARE = 0.1


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("synthetic"))


@pytest.mark.parametrize("choice", ["FP8, absmax", "FP8, fitted"])
@pytest.mark.parametrize("model", ["demo", "synthetic"])
def test_fp8_costs_less_than_a_tenth_of_nvfp4(
    model: str, choice: str, drawn: Path, record_property: Callable[[str, object], None]
) -> None:
    found = study.weights(CHECKPOINT if model == "demo" else drawn, study.CHOICES[choice])
    record_property(f"{model}, {choice}: relative error of weights", found.range("error", 4))
    record_property(f"{model}, {choice}: square to NVFP4's", found.range("share", 4))
    # in_proj_qkvz of three layers, q/k/v, lm_head; of the MTP layer q/k/v/o, fc, experts, a shared expert.
    assert len(found.layers) == 3 + 3 + 1 + 4 + 1 + 3 + 3
    assert all(layer.share is not None and layer.share < ERROR_SHARE for layer in found.layers)


def test_what_is_excluded_is_in_bf16_and_multiplied_with(drawn: Path) -> None:
    stored = Tensors(str(drawn), {}).tensors
    found = {
        name.removesuffix(".weight").rpartition(".")[2]
        for name in stored
        if study.excluded(name.removesuffix(".weight"), stored[name])
    }
    experts = {"gate_proj", "up_proj", "down_proj"}
    assert found == {"in_proj_qkvz", "q_proj", "k_proj", "v_proj", "o_proj", "lm_head", "fc", *experts}


@pytest.mark.parametrize("precision", ["FP8", "NVFP4"])
def test_fitting_pays_in_every_layer(precision: str, drawn: Path) -> None:
    absmax, fitted = (
        study.weights(drawn, study.CHOICES[f"{precision}, {way}"]) for way in ("absmax", "fitted")
    )
    for before, after in zip(absmax.layers, fitted.layers, strict=True):
        assert after.error < before.error


def test_the_synthetic_weights_have_what_they_claim() -> None:
    """Heavy tails, outlier channels, and norms that differ from row to row and from layer to layer."""
    tensors = {name: tensor.double().numpy() for name, tensor in synthetic.drawn().items()}
    norms = []
    for layer in range(3):
        weight = tensors[f"model.layers.{layer}.linear_attn.in_proj_qkvz.weight"]
        norms.append(np.linalg.norm(weight))
        columns = np.linalg.norm(weight, axis=0)
        assert (columns > 4 * np.median(columns)).sum() == synthetic.HIDDEN // 64
        rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        rows = rows[:, columns < 4 * np.median(columns)]
        assert (rows**4).mean() / (rows**2).mean() ** 2 > 4  # a normal distribution's is 3
        lengths = np.linalg.norm(weight, axis=1)
        assert 0.4 < np.log(lengths).std() < 0.7
    assert max(norms) > 1.1 * min(norms)
    again = synthetic.drawn()
    assert all(np.array_equal(again[name].double().numpy(), tensors[name]) for name in tensors)
    other = synthetic.drawn(1)["lm_head.weight"].double().numpy()
    assert not np.array_equal(other, tensors["lm_head.weight"])


def test_a_written_choice_is_rounded_weights_and_nothing_else(drawn: Path, tmp_path: Path) -> None:
    out = study.write(drawn, study.CHOICES["NVFP4, absmax"], tmp_path / "out")
    before, after = (load_file(each / "model.safetensors") for each in (drawn, out))
    assert before.keys() == after.keys()
    assert {path.name for path in drawn.iterdir()} == {path.name for path in out.iterdir()}
    for name in ("lm_head.weight", "mtp.fc.weight", "model.layers.3.self_attn.k_proj.weight"):
        wanted = dequantize(quantize(before[name].float())).bfloat16()
        torch.testing.assert_close(after[name], wanted, rtol=0, atol=0)
    stored = Tensors(str(drawn), {}).tensors
    changed = {name for name in before if study.excluded(name.removesuffix(".weight"), stored[name])}
    for name in before.keys() - changed:
        old, new = (tensors[name].reshape(-1).view(torch.uint8) for tensors in (before, after))
        assert torch.equal(old, new), name


@pytest.mark.engine
def test_fp8_costs_less_than_nvfp4_in_predictions_too(
    drawn: Path,
    demo_text: Path,
    session_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    for name, value in {**session_environment, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    before = divergence.score(Subject(drawn), demo_text, tmp_path / "before", 512, "BF16")
    kl = {}
    for name in ("FP8, fitted", "NVFP4, absmax"):
        out = study.write(drawn, study.CHOICES[name], tmp_path / name)
        after = divergence.score(Subject(out), demo_text, tmp_path / f"{name}.scores", 512, name)
        told = divergence.compare(before, after)
        record_property(name, told)
        kl[name] = told.kl
    assert 0 < kl["FP8, fitted"] < 0.5 * kl["NVFP4, absmax"]
