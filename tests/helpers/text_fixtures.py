"""A text that the demo model knows, and the command that measures a model over it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def demo_text(tmp_path: Path) -> Path:
    """A file of trained sequences."""
    path = tmp_path / "text"
    path.write_text("1 2 3 4 5 6 7 8 9 10<|endoftext|>a b c d e f g h i j k l m n o p<|endoftext|>" * 12)
    return path


@pytest.fixture
def command(session_environment: dict[str, str]) -> Command:
    """The command in a process of its own, on one thread."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dgx_vllm.cli", *map(str, words)],
            env={**session_environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    return run
