"""The kernels compiled for this machine's CPU, once a test run."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = Path(os.environ.get("DGX_VLLM_KERNELS", HERE.parents[1] / "kernels"))


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = os.environ.get("CXX") or shutil.which("g++-12") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    library = tmp_path_factory.mktemp("kernels") / "libemulated.so"
    subprocess.run(
        [compiler, "-std=c++17", "-O2", "-shared", "-fPIC", f"-I{KERNELS / 'emulation'}", f"-I{KERNELS}",
         str(HERE / "emulated.cpp"), "-o", str(library)],
        check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(library))
