"""Where vLLM runs over a text it finds the driver, as `serve`'s does."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.evaluation import divergence, engine_environment
from dgx_vllm.evaluation.divergence import Subject
from dgx_vllm.host import meminfo
from helpers.doctoring import install_driver


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a machine with a driver, and memory for two compile jobs beside an engine with 1 GB of weights."""
    install_driver(tmp_path / "driver", machine=os.uname().machine)
    monkeypatch.setattr(meminfo, "available", lambda: 25 * 10**9)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(20))
    return {"DGX_VLLM_DRIVER": str(tmp_path / "driver"), "VLLM_CACHE_ROOT": str(tmp_path / "cache")}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    with (directory / "model.safetensors").open("wb") as file:
        file.truncate(10**9)
    return directory


def test_the_engines_environment_reaches_the_driver(
    environ: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    found = engine_environment.prepared(environ, checkpoint)
    links = Path(found["LD_LIBRARY_PATH"])
    assert (links / "libcuda.so.1").resolve().parent == tmp_path / "driver"
    assert found["TRITON_LIBCUDA_PATH"] == str(links)
    assert found["MAX_JOBS"] == "2"
    assert engine_environment.prepared({**environ, "MAX_JOBS": "7"}, checkpoint)["MAX_JOBS"] == "7"


def test_a_command_becomes_itself_once(
    environ: dict[str, str], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *what: became.append(what))
    engine_environment.enter(environ, checkpoint)
    ((program, words, inner),) = became
    assert (program, words) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
    engine_environment.enter(inner, checkpoint)
    assert len(became) == 1


def test_scoring_runs_in_it(
    environ: dict[str, str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def popen(*_: Any, env: dict[str, str], **__: Any) -> None:
        seen.append(env)
        raise OSError("not to be started")

    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(divergence.subprocess, "Popen", popen)
    with pytest.raises(OSError, match="not to be started"):
        divergence.score(Subject(checkpoint), tmp_path / "text", tmp_path / "out", 8, "")
    assert (Path(seen[0]["LD_LIBRARY_PATH"].split(":")[0]) / "libcuda.so.1").exists()
