"""What `dgx-vllm install-service` refuses before it writes a unit."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dgx_vllm import machine
from dgx_vllm.errors import UserError
from dgx_vllm.machine import Machine, Vllm
from dgx_vllm.service.command import Wish, install_service

FAKE_VLLM = Path(__file__).parents[1] / "launch/fake/vllm"
WISH = Wish(
    name="main",
    remove=False,
    user=False,
    dry_run=True,
    run_as=None,
    profile=None,
    host="127.0.0.1",
    port=8888,
    config=None,
    environment_file=None,
    api_key_file=None,
    hf_token_file=None,
    cache_dir=None,
    memory_reserve=None,
    memory_budget=None,
    dense_dtype=None,
    watchdog=120,
)
FIVE_DRAFTS = ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 5}']


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine(
        vllm=Vllm(version="0.32.0", platform="cpu", package=FAKE_VLLM, has_command=False),
        gpus=(),
        memory=24 * 10**9,
        cpus=8,
        python="/env/bin/python",
    )
    monkeypatch.setattr(machine, "detect", lambda: here)


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        (["./nowhere"], {}, "there is no checkpoint at ./nowhere"),
        ([], {"profile": "nosuch"}, "nosuch"),
        ([], {"config": Path("/nonexistent.yaml")}, "/nonexistent.yaml"),
        (
            [],
            {"environment_file": Path("/nonexistent")},
            "--environment-file /nonexistent: there is no such file",
        ),
        ([], {"memory_reserve": "lots"}, "--memory-reserve 'lots' is no amount of memory"),
        ([], {"host": "1.2.3.4.5"}, "does not resolve"),
        ([], {"run_as": "nobody-here"}, "this machine has no such user"),
        (FIVE_DRAFTS, {}, "use at most 4"),
        (["--max-modle-len", "1"], {}, "did you mean --max-model-len"),
    ],
)
def test_what_serve_would_refuse_is_refused_now(
    capsys: pytest.CaptureFixture[str], words: list[str], changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        install_service(words, os.environ, replace(WISH, **changes))  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert capsys.readouterr().out == ""


def test_the_callers_environment_is_not_the_units(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_NVFP4_GEMM_BACKEND", "marlin")
    monkeypatch.setenv("MODEL", "./nowhere")
    install_service([], os.environ, WISH)
    assert "[Service]" in capsys.readouterr().out
