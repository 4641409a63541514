"""`dgx-vllm eval-prune`: its figures against numpy's, what it refuses, and a pruned demo through vLLM."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sparse_reference import values

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.evaluation import engine
from dgx_vllm.evaluation.divergence import compare
from helpers.checkpoint_reader import read_tensors
from helpers.doctoring import install_driver
from helpers.text_fixtures import Command

Run = Callable[..., tuple[int, str, str]]


def expert(directory: Path, index: int) -> list[np.ndarray]:
    held = {k: v for path in directory.glob("*.safetensors") for k, v in read_tensors(path).items()}
    parts = ("weight", "weight_scale", "weight_scale_2")
    names = [f"model.layers.0.mlp.experts.{index}.{leaf}_proj" for leaf in ("gate", "up", "down")]
    return [values(*(held[f"{name}.{part}"] for part in parts)) for name in names]


def outputs(matrices: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    gate, up, down = matrices
    g = x @ gate.T
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T


def test_the_figures_are_those_of_numpy(
    run: Run, checkpoint: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("prune", checkpoint, out, "--method", "magnitude")
    status, said, _ = run("eval-prune", checkpoint, out, "--calibration", calibration, "--json")
    assert status == 0
    told = json.loads(said)
    (block,) = told["blocks"]
    x = load_file(calibration)["layers.0.mlp.experts"].double().numpy()[:256]
    wrong = whole = up_wrong = up_whole = 0.0
    cosines = []
    for index in range(10):
        before, after = expert(checkpoint, index), expert(out, index)
        y, z = outputs(before, x), outputs(after, x)
        wrong, whole = wrong + ((y - z) ** 2).sum(), whole + (y**2).sum()
        up_wrong += ((x @ (before[1] - after[1]).T) ** 2).sum()
        up_whole += ((x @ before[1].T) ** 2).sum()
        cosines.append((y * z).sum(1) / np.linalg.norm(y, axis=1) / np.linalg.norm(z, axis=1))
    assert block["output"] == pytest.approx(math.sqrt(wrong / whole), rel=1e-4)
    assert block["up"] == pytest.approx(math.sqrt(up_wrong / up_whole), rel=1e-4)
    assert block["cosine"] == pytest.approx(np.concatenate(cosines).mean(), rel=1e-4)
    assert told["sparsity"]["pattern"] == "2:4"
    assert told["text"] is None


def test_the_table_names_the_layers_and_their_error(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    run("prune", checkpoint, tmp_path / "out")
    status, said, _ = run("eval-prune", checkpoint, tmp_path / "out")
    assert status == 0
    assert "relative error on drawn inputs" in said
    assert "model.layers.0.mlp.experts" in said


def scores(logits: np.ndarray, known: list[list[int]], token: list[int]) -> dict[str, torch.Tensor]:
    """What `score` would write of a model that gives these logits."""
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    most = max(map(len, known))
    ids = [row + [-1] * (most - len(row)) for row in known]
    return {
        "token": torch.tensor(token, dtype=torch.int32),
        "ids": torch.tensor(ids, dtype=torch.int32),
        "logs": torch.tensor(np.array([[logs[i, j] for j in row] for i, row in enumerate(ids)])).float(),
    }


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_divergence_matches_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary, count = 12, 5
    p, q = 2 * rng.normal(size=(2, count, vocabulary))
    token = rng.integers(0, vocabulary, count).tolist()
    all_of_it = [list(range(vocabulary))] * count
    told = compare(scores(p, all_of_it, token), scores(q, all_of_it, token))
    ps, qs = (np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in (p, q))
    kl = (ps * np.log(ps / qs)).sum(axis=1).mean()
    assert told.exact
    assert told.kl == pytest.approx(kl, rel=1e-4, abs=1e-6)
    assert told.perplexity_after == pytest.approx(
        math.exp(-np.log(qs[np.arange(count), token]).mean()), rel=1e-5
    )
    assert told.agreement == (p.argmax(1) == q.argmax(1)).mean()

    def likeliest(logits: np.ndarray) -> list[list[int]]:
        best = [row.argsort()[::-1][:4].tolist() for row in logits]
        return [row if t in row else [*row, t] for row, t in zip(best, token, strict=True)]

    part = compare(scores(p, likeliest(p), token), scores(q, likeliest(q), token))
    assert not part.exact
    assert part.kl <= kl + 1e-5
    assert part.perplexity_before == pytest.approx(told.perplexity_before)


def refused(outcome: tuple[int, str, str], *said: str) -> None:
    assert outcome[0] == 2, outcome
    (line,) = outcome[2].splitlines()
    for words in said:
        assert words in line


def test_a_checkpoint_is_no_distance_from_itself(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    same = tmp_path / "same"
    shutil.copytree(checkpoint, same)
    config = json.loads((same / "config.json").read_text())
    config["quantization_config"]["weight_sparsity"] = {"pattern": "2:4", "targets": [], "method": "none"}
    (same / "config.json").write_text(json.dumps(config))
    (block,) = json.loads(run("eval-prune", checkpoint, same, "--json")[1])["blocks"]
    assert block["output"] == block["gate"] == block["up"] == block["down"] == 0
    assert block["cosine"] == pytest.approx(1)


def test_checkpoints_that_cannot_be_compared_are_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("prune", checkpoint, out)
    refused(run("eval-prune", checkpoint, checkpoint), "is not marked as pruned")
    refused(run("eval-prune", "demo", out), "give a checkpoint that was pruned from it")
    text = tmp_path / "text"
    refused(run("eval-prune", checkpoint, out, "--text", text), "No such file")
    text.write_bytes(b"\xff\xfe\x00")
    refused(run("eval-prune", checkpoint, out, "--text", text), "is not UTF-8")
    text.write_text(" \n")
    refused(run("eval-prune", checkpoint, out, "--text", text), "holds no text")
    refused(run("calibrate", checkpoint, text, tmp_path / "c"), "holds no text")
    text.write_text("1 2 3")
    refused(run("calibrate", checkpoint, text, tmp_path / "no" / "c"), "there is no directory")
    refused(run("calibrate", checkpoint, text, tmp_path), "is a directory; name a file in it")
    (tmp_path / "c.part").mkdir()
    refused(run("calibrate", checkpoint, text, tmp_path / "c"), "c.part is a directory")


def test_calibrate_reaches_the_driver(
    run: Run,
    environment: dict[str, str],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It becomes itself where the loader finds the driver, before vLLM is loaded."""
    install_driver(tmp_path / "driver", machine=os.uname().machine)
    environment["DGX_VLLM_DRIVER"] = str(tmp_path / "driver")
    became: list[dict[str, str]] = []

    def execve(_program: str, _words: object, inner: dict[str, str]) -> None:
        became.append(inner)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    (tmp_path / "text").write_text("1 2 3")
    assert run("calibrate", checkpoint, tmp_path / "text", tmp_path / "c")[0] == 0
    (inner,) = became
    assert (Path(inner["LD_LIBRARY_PATH"].split(":")[0]) / "libcuda.so.1").exists()
    assert int(inner["MAX_JOBS"]) >= 1


def test_calibrate_says_why_vllm_does_not_run_the_model(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: Path) -> None:
        raise ValueError("too little memory")

    monkeypatch.setattr(engine, "start", start)
    (tmp_path / "text").write_text("1 2 3")
    status, out, said = run("calibrate", checkpoint, tmp_path / "text", tmp_path / "c")
    assert (status, out) == (1, "")
    assert said == (
        f"dgx-vllm: vLLM does not run {checkpoint} here (ValueError: too little memory); "
        f"`dgx-vllm serve {checkpoint} --dry-run` and `dgx-vllm doctor` say more\n"
    )
    assert not list(tmp_path.glob("c*.part"))


@pytest.mark.engine
def test_calibrated_pruning_of_the_demo_beats_magnitude(
    command: Command,
    demo_text: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    def printed(*words: object) -> str:
        done = command(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    calibration = tmp_path / "calibration"
    printed("calibrate", CHECKPOINT, demo_text, calibration)
    assert set(load_file(calibration)) == {f"layers.{i}.mlp.experts" for i in range(4)}
    kl = {}
    for way, more in (
        ("magnitude", ("--method", "magnitude")),
        ("calibrated", ("--calibration", calibration)),
    ):
        printed("prune", CHECKPOINT, tmp_path / way, *more)
        report = printed("eval-prune", CHECKPOINT, tmp_path / way, "--text", demo_text, "--json")
        told = json.loads(report)["text"]
        record_property(way, told)
        assert told["exact"]
        assert told["tokens"] > 400
        kl[way] = told["kl"]
    # The text is the one that was calibrated on: the pieces meet, which is not to say that they generalize.
    assert 0 < kl["calibrated"] < kl["magnitude"]
