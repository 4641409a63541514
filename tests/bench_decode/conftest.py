"""The command in this process, offline."""

from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run: Run, environment: dict[str, str]) -> Run:
    """`dgx-vllm bench-decode` with these words: its status, output and errors."""
    environment["HF_HUB_OFFLINE"] = "1"
    return lambda *words: run("bench-decode", *words)
