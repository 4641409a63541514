"""`dgx-vllm prune`: what it writes, goes on with, and refuses."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sparse_reference import values, zeros_fit

from dgx_vllm.checkpoints import sparsity
from dgx_vllm.formats.nvfp4.sparsity_pattern import PATTERNS
from dgx_vllm.prune import destination, shard
from dgx_vllm.prune.method import Method
from helpers.checkpoint_reader import read_tensors

Run = Callable[..., tuple[int, str, str]]
PREFIX = "model.layers.0.mlp"


def tensors(directory: Path) -> dict[str, np.ndarray]:
    return {
        name: tensor
        for path in sorted(directory.glob("*.safetensors"))
        for name, tensor in read_tensors(path).items()
    }


def matrix(held: dict[str, np.ndarray], module: str) -> np.ndarray:
    return values(*(held[f"{module}.{suffix}"] for suffix in ("weight", "weight_scale", "weight_scale_2")))


def modules(*experts: str) -> list[str]:
    return [f"{PREFIX}.{e}.{leaf}_proj" for e in experts for leaf in ("gate", "up", "down")]


ROUTED = modules(*(f"experts.{i}" for i in range(10)))
SHARED = modules("shared_expert")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("way", ["magnitude", "activation", "calibrated"])
def test_a_pruned_checkpoint_holds_the_pattern_and_the_rest_unchanged(
    run: Run, checkpoint: Path, calibration: Path, tmp_path: Path, pattern: str, way: str
) -> None:
    out = tmp_path / "out"
    method = "magnitude" if way == "magnitude" else "activation"
    more = ["--calibration", calibration] if way == "calibrated" else []
    status, said, _ = run("prune", checkpoint, out, "--method", method, "--pattern", pattern, *more)
    assert status == 0, said
    assert f"10 experts in 1 layers {pattern} by {method}" in said
    before, after = tensors(checkpoint), tensors(out)
    assert before.keys() == after.keys()
    for module in ROUTED:
        was, now = matrix(before, module), matrix(after, module)
        assert all(zeros_fit(row, PATTERNS[pattern].run) for row in now)
        assert (now != 0).mean() > 0.4
        # Half of the values are as they were, or near: no matrix met another one's scales.
        assert np.linalg.norm(now - was) < 0.75 * np.linalg.norm(was)
    changed = {f"{m}.{s}" for m in ROUTED for s in ("weight", "weight_scale")}
    for name in before.keys() - (changed if way == "calibrated" else {n for n in changed if n[-1] == "t"}):
        assert before[name].tobytes() == after[name].tobytes(), name
    for name in ("tokenizer.json", "model.safetensors.index.json"):
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()
    declared = {"pattern": pattern, "targets": ["routed_experts"], "method": method}
    written = json.loads((out / "config.json").read_text())
    assert written["quantization_config"].pop("weight_sparsity") == declared
    assert written == json.loads((checkpoint / "config.json").read_text())
    older = json.loads((out / "hf_quant_config.json").read_text())
    assert older["quantization"]["weight_sparsity"] == declared
    assert not list(out.glob("*.part"))


def test_the_shared_expert_is_pruned_if_asked_for(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("prune", checkpoint, tmp_path / "out", "--shared-expert")[0] == 0
    after = tensors(tmp_path / "out")
    assert all(zeros_fit(row, 1) for module in SHARED for row in matrix(after, module))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    said = config["quantization_config"]["weight_sparsity"]["targets"]
    assert said == ["routed_experts", "shared_expert"]


def test_root_mean_squares_choose_without_changing_scales(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    rms = torch.ones(64)
    rms[::4] = 100
    save_file({"layers.0.mlp.experts": rms}, tmp_path / "rms")
    assert run("prune", checkpoint, tmp_path / "out", "--calibration", tmp_path / "rms")[0] == 0
    before, after = tensors(checkpoint), tensors(tmp_path / "out")
    module = ROUTED[0]
    loud = matrix(before, module)[:, ::4]
    np.testing.assert_array_equal(matrix(after, module)[:, ::4], loud)


def test_a_finished_one_says_so_and_is_left_alone(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("prune", checkpoint, out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    status, said, _ = run("prune", checkpoint, out)
    assert (status, "is finished" in said) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


class Stop(BaseException):
    """The power is gone."""


def test_it_goes_on_where_it_was_stopped(
    run: Run, checkpoint: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run("prune", checkpoint, whole, "--calibration", calibration)
    put, calls = shard._put, 0

    def stopping(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise Stop
        put(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shard, "_put", stopping)
        with pytest.raises(Stop):
            run("prune", checkpoint, out, "--calibration", calibration)
    assert not (out / "config.json").exists()
    assert [path.name for path in out.glob("*.part")] != []
    first = {path: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert run("prune", checkpoint, out, "--calibration", calibration)[0] == 0
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_memory_is_that_of_some_experts(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    prune = Method.prune

    def watched(self: Method, block: object, indices: tuple[int, ...]) -> dict[str, torch.Tensor]:
        asked.append(len(indices))
        return prune(self, block, indices)

    monkeypatch.setattr(Method, "prune", watched)
    run("prune", checkpoint, tmp_path / "out")
    # Ten experts in batches of eight; the first batch lies in both files.
    assert asked == [8, 8, 2]


def refused(outcome: tuple[int, str, str], *said: str, status: int = 2) -> None:
    assert outcome[0] == status, outcome
    assert outcome[1] == ""
    (line,) = outcome[2].splitlines()
    assert re.fullmatch(r"dgx-vllm: [^\n]+", line)
    for words in said:
        assert words in line


def test_unknown_methods_and_patterns_are_refused(
    run: Run, checkpoint: Path, calibration: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused(run("prune", checkpoint, out, "--method", "luck"), "'luck'", "magnitude or activation")
    refused(run("prune", checkpoint, out, "--pattern", "1:4"), "'1:4'", "2:4, 4:8-pairs")
    both = ("--method", "magnitude", "--calibration", calibration)
    refused(run("prune", checkpoint, out, *both), "--calibration is for --method activation")
    refused(run("prune", tmp_path / "nothing", out), "nothing", "does not exist")
    assert not out.exists()


def test_an_output_in_a_place_that_is_taken_is_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    refused(run("prune", checkpoint, checkpoint), "the checkpoint itself")
    refused(run("prune", checkpoint, checkpoint / "pruned"), "the checkpoint itself or in it")
    refused(run("prune", checkpoint, tmp_path), "lies in OUT", "give a separate OUT")
    file = tmp_path / "file"
    file.write_text("")
    refused(run("prune", checkpoint, file), "is a file")
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    refused(run("prune", checkpoint, other), "is not a pruned checkpoint")
    out = tmp_path / "out"
    run("prune", checkpoint, out)
    refused(run("prune", checkpoint, out, "--method", "magnitude"), "in another way", "activation")
    refused(run("prune", out, tmp_path / "twice"), "pruned to 2:4 already")
    (out / destination.RECORD).write_text("{")
    refused(run("prune", checkpoint, out), "damaged", "remove")


def test_a_place_that_another_process_writes(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    run("prune", checkpoint, out)
    (out / "config.json").unlink()
    with (out / destination.RECORD).open("rb") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        refused(run("prune", checkpoint, out), "another process", status=1)


def rewritten(checkpoint: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = checkpoint / "model-00001-of-00002.safetensors"
    held = load_file(path)
    change(held)
    save_file(held, path)


def test_checkpoints_that_cannot_be_pruned_are_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    down = f"{PREFIX}.experts.0.down_proj"

    def plain(held: dict[str, torch.Tensor]) -> None:
        for name in list(held):
            if held[name].dtype == torch.uint8:
                held[name] = held[name].bfloat16()

    def narrow(held: dict[str, torch.Tensor]) -> None:
        held[f"{down}.weight"] = held[f"{down}.weight"][:, :7].contiguous()

    def flat(held: dict[str, torch.Tensor]) -> None:
        held[f"{down}.weight"] = held[f"{down}.weight"].flatten()

    for change, said in (
        (narrow, f"{down}.weight is [64, 7], where [64, 16] belongs"),
        (flat, "are not matrices"),
    ):
        copy = tmp_path / said[-6:].strip()
        shutil.copytree(checkpoint, copy)
        rewritten(copy, change)
        refused(run("prune", copy, out), said, "fetch the checkpoint again")
    gone = tmp_path / "gone"
    shutil.copytree(checkpoint, gone)
    for path in gone.glob("*.safetensors"):
        held = load_file(path)
        plain(held)
        save_file(held, path)
    refused(run("prune", gone, out), "no routed experts in ModelOpt's NVFP4")
    path = checkpoint / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(run("prune", checkpoint, out), "truncated", "fetch the checkpoint again")
    assert not out.exists()


def test_calibrations_that_do_not_fit_are_refused(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration"

    def outcome(tensor: torch.Tensor, name: str = "layers.0.mlp.experts") -> tuple[int, str, str]:
        save_file({name: tensor}, path)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return run("prune", checkpoint, tmp_path / "out", "--calibration", path)

    refused(outcome(torch.ones(64), "layers.9.mlp.experts"), "has no layers.0.mlp.experts")
    refused(outcome(torch.ones(32)), "is [32], where [64] or [tokens, 64] belongs")
    refused(outcome(torch.full((64,), torch.nan)), "NaN")
    path.write_text("no tensors")
    shutil.rmtree(tmp_path / "out")
    words = ("prune", checkpoint, tmp_path / "out", "--calibration", path)
    refused(run(*words), "is not a calibration file", "dgx-vllm calibrate")


def test_a_full_disk_is_refused_and_leaves_nothing(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**30))
        refused(run("prune", checkpoint, out), "the disk is too full", "set OUT to", status=1)
    assert not out.exists()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shard, "_put", full)
        refused(run("prune", checkpoint, out), "the disk filled up", "run this again", status=1)
    assert run("prune", checkpoint, out)[0] == 0


def test_plan_says_that_it_is_pruned(run: Run, tmp_path: Path) -> None:
    run("prune", "demo", tmp_path / "out")
    status, said, _ = run("plan", tmp_path / "out")
    assert status == 0
    assert "Pruned to 2:4 by activation: routed_experts" in said
    said = json.loads(run("plan", tmp_path / "out", "--json")[1])["sparsity"]
    assert said == {"pattern": "2:4", "targets": ["routed_experts"], "method": "activation"}
    assert json.loads(run("plan", "demo", "--json")[1])["sparsity"] is None


def test_the_names_of_the_patterns() -> None:
    assert tuple(PATTERNS) == sparsity.PATTERNS


def test_a_sparsity_that_is_unknown(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    for value, said in (
        ({"pattern": "1:8", "targets": [], "method": "x"}, "'1:8'"),
        ({"pattern": 3}, "cannot be read"),
    ):
        config["quantization_config"]["weight_sparsity"] = value
        (checkpoint / "config.json").write_text(json.dumps(config))
        refused(run("prune", checkpoint, tmp_path / "out"), said)
