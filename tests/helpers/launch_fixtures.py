"""Machines to plan for, and the command line run in a process of its own against a stand-in for vLLM."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.host import machine, meminfo
from dgx_vllm.host.machine import GIB, Gpu, Machine, Vllm
from dgx_vllm.host.spark import large
from helpers.launching import COMMAND, FAKE, Outcome, Run, Running, Start, free_port, write_safetensors
from helpers.processes import PATIENCE


@pytest.fixture(scope="session")
def vllm_parser() -> argparse.ArgumentParser:
    """The installed vLLM's own parser of serve's flags."""
    from vllm.entrypoints.launchers.cli_args import create_parser_for_docs

    return create_parser_for_docs()


@pytest.fixture
def laptop() -> Machine:
    """An x86_64 machine with the CPU build, without a GPU."""
    vllm = Vllm("0.32.0", "cpu", FAKE / "vllm", has_command=False)
    return Machine(vllm, (), 32 * GIB, 8, "/env/bin/python")


@pytest.fixture
def spark() -> Machine:
    """A DGX Spark: one GPU that shares the host's memory."""
    vllm = Vllm("0.32.0", "cuda", FAKE / "vllm", has_command=True)
    return Machine(vllm, (Gpu("NVIDIA GB10", None),), large().visible, 20, "/env/bin/python")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The smallest directory that is a whole checkpoint."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (directory / "tokenizer.json").write_text("{}")
    write_safetensors(directory / "model.safetensors", {"weight": 16})
    return directory


@pytest.fixture
def dgx_vllm(
    environment: dict[str, str],
    laptop: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command run in this process, on `laptop` unless another machine is given."""
    from dgx_vllm import cli

    def run(*words: str, on: Machine = laptop, environ: Mapping[str, str] | None = None) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["dgx-vllm", *words])
            patch.setattr(machine, "detect", lambda: on)
            patch.setattr(meminfo, "available", lambda: on.memory)
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in {**environment, **(environ or {})}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        captured = capsys.readouterr()
        status = ended.value.code
        return Outcome(status if isinstance(status, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def fake_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """`environment` with the stand-in installed in front of any real vLLM."""
    metadata = tmp_path / "site" / "vllm-0.32.0+cpu.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    path = os.pathsep.join([str(FAKE), str(tmp_path / "site"), environment["PYTHONPATH"]])
    return {**environment, "PYTHONPATH": path}


@pytest.fixture
def start(fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `dgx-vllm serve` over the fake vLLM, whose behaviour is given by keyword."""
    started: list[Running] = []

    def run(*words: str, environ: Mapping[str, str] | None = None, **behaviour: Any) -> Running:
        record = tmp_path / f"record{len(started)}"
        record.mkdir()
        ready_file = record / "ready.json"
        port = free_port()
        command = [
            *COMMAND,
            "serve",
            str(checkpoint),
            "--port",
            str(port),
            "--ready-file",
            str(ready_file),
            *words,
        ]
        variables = {
            **fake_environment,
            "FAKE_VLLM": json.dumps(behaviour),
            "FAKE_VLLM_RECORD": str(record),
            **(environ or {}),
        }
        process = subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        started.append(Running(process, record, ready_file, port))
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()  # twice: the second one kills what is deaf to the first
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.communicate(timeout=2)
            running.process.terminate()
            running.process.communicate(timeout=PATIENCE)
