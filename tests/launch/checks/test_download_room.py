"""Room for a download into the directory that `--download-dir` names."""

from pathlib import Path

import pytest

from dgx_vllm.host import disk_space
from dgx_vllm.host.machine import GIB, Machine
from helpers.launching import Run

MODEL = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"


def test_what_lies_there_counts_and_is_named(
    dgx_vllm: Run, spark: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: 3 * GIB)
    words = ["serve", MODEL, "--download-dir", str(tmp_path / "models")]
    outcome = dgx_vllm(*words, on=spark)
    assert f"downloading {MODEL} needs 50.7 GB more in {tmp_path / 'models'}" in outcome.err
    assert "set --download-dir to a larger disk" in outcome.err
    part = tmp_path / "models" / f"models--{MODEL.replace('/', '--')}" / "blobs" / "a.incomplete"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.truncate(40 * GIB)  # a hole: it takes no room
    assert f"the rest of {MODEL} needs 7.8 GB more" in dgx_vllm(*words, on=spark).err


def test_a_model_in_the_cache_is_not_in_that_directory(
    dgx_vllm: Run,
    spark: Machine,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: 3 * GIB)
    folder = Path(environment["HF_HOME"], "hub", f"models--{MODEL.replace('/', '--')}")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    outcome = dgx_vllm("serve", MODEL, "--download-dir", str(tmp_path / "models"), on=spark)
    assert f"downloading {MODEL} needs 50.7 GB more" in outcome.err
