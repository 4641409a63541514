"""The command in this process, offline."""

import os
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`dgx-vllm bench-decode` with these words: its status, output and errors."""
    from dgx_vllm import cli

    def call(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["dgx-vllm", "bench-decode", *map(str, words)])
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in {**environment, "HF_HUB_OFFLINE": "1"}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        captured = capsys.readouterr()
        status = ended.value.code
        return status if isinstance(status, int) else 0, captured.out, captured.err

    return call
