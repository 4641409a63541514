"""The model whose figures were published, and machines to start it on."""

import json
from pathlib import Path

import pytest
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.host.machine import Gpu, Machine, Vllm
from dgx_vllm.host.spark import large
from dgx_vllm.plan.model import Model


@pytest.fixture(scope="session")
def qwen3_next() -> Model:
    """Qwen3-Next-80B-A3B in NVFP4."""
    return understood(QWEN3_NEXT_NVFP4)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Its config.json, without weights."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN3_NEXT_NVFP4))
    return path


@pytest.fixture
def spark() -> Machine:
    """A DGX Spark with nothing else on it."""
    vllm = Vllm("0.32.0", "cuda", Path("/env/vllm"), has_command=True)
    return Machine(vllm, (Gpu("NVIDIA GB10", None),), large().visible, 20, "/env/bin/python")


@pytest.fixture
def laptop() -> Machine:
    """A machine with the CPU build."""
    vllm = Vllm("0.32.0", "cpu", Path("/env/vllm"), has_command=False)
    return Machine(vllm, (), 32 * 2**30, 8, "/env/bin/python")
