"""The kernels compiled for this machine's CPU, once a test run."""

import ctypes
from pathlib import Path

import pytest
from emulation import build, compiler


@pytest.fixture(scope="session")
def cxx() -> str:
    found = compiler()
    if found is None:
        pytest.skip("needs g++")
    return found


@pytest.fixture(scope="session")
def emulated(cxx: str, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = Path(__file__).parent / "emulated.cpp"
    return build(cxx, source, tmp_path_factory.mktemp("kernels"))
