"""The table of backends is what vLLM itself selects on compute capability 12.1."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dgx_vllm.doctor import backends

pytest.importorskip("vllm.model_executor.kernels.linear", reason="vLLM is not installed")


@pytest.mark.parametrize("flashinfer", [True, False])
def test_table_is_vllms_selection(session_environment: dict[str, str], flashinfer: bool) -> None:
    program = Path(__file__).parent / "select_as_gb10.py"
    outcome = subprocess.run(
        [sys.executable, "-P", str(program), "yes" if flashinfer else "no"],
        env=session_environment,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    answers = json.loads(outcome.stdout.splitlines()[-1])
    expected = backends.select(None if flashinfer else "not installed", package=flashinfer)
    assert {kind: answer.get("backend", answer) for kind, answer in answers.items()} == {
        kind: choice.name for kind, choice in expected.items()
    }
