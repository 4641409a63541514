"""A DGX Spark for every test that asks for one."""

from pathlib import Path

import pytest

from dgx_vllm.doctor import backends
from dgx_vllm.doctor.place import Place
from helpers.doctoring import spark as make


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A Spark in order. FlashInfer is installed, as in the product, and finds no compiler."""
    monkeypatch.setattr(backends, "installed", lambda package: package == "flashinfer")
    monkeypatch.setattr(backends, "nvcc", lambda environ: None)
    return make(tmp_path)
