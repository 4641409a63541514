"""The environment that a GB10 runs, looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arm_functions import Extension
    from cubins import Cubin

EXTENSIONS = ("_C_stable_libtorch", "_moe_C_stable_libtorch")


@pytest.fixture(scope="session")
def gb10_site() -> Path:
    """The packages of the environment that $GB10_ENVIRONMENT names, for CUDA and aarch64."""
    environment = os.environ.get("GB10_ENVIRONMENT")
    if not environment:
        pytest.skip("GB10_ENVIRONMENT names no assembled environment for CUDA and aarch64")
    return Path(environment) / "lib/python3.11/site-packages"


@pytest.fixture(scope="session")
def gb10_cubins(gb10_site: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Cubin]:
    """What vLLM's compiled extensions hold for GPUs of compute capability 12.x."""
    from cubins import cubins_of

    return [
        cubin
        for extension in EXTENSIONS
        for cubin in cubins_of(
            gb10_site / f"vllm/{extension}.abi3.so", "sm_120", tmp_path_factory.mktemp(extension)
        )
    ]


@pytest.fixture(scope="session")
def extension(gb10_site: Path) -> Extension:
    """vLLM's main extension on an emulated Arm core; a test sets its `capability`."""
    from arm_functions import Extension

    return Extension(gb10_site / "vllm/_C_stable_libtorch.abi3.so")
