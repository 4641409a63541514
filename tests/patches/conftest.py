"""The environment that a GB10 runs, looked at; and vLLM's CPU build, told that it runs on one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arm_functions import Extension
    from cubins import Cubin

GB10 = (12, 1)
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


@pytest.fixture
def on_gb10(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's Python takes this machine for a GB10. What asks on import has been imported before."""
    import vllm.model_executor.layers.fused_moe.oracle.nvfp4  # noqa: F401
    from vllm import platforms
    from vllm.platforms.interface import DeviceCapability

    platform = type(platforms.current_platform)
    monkeypatch.setattr(platform, "_enum", platforms.PlatformEnum.CUDA)
    monkeypatch.setattr(
        platform, "get_device_capability", classmethod(lambda cls, device_id=0: DeviceCapability(*GB10))
    )
    monkeypatch.setattr(platform, "get_device_name", classmethod(lambda cls, device_id=0: "NVIDIA GB10"))


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The groups of one process that vLLM's layers look for."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import (
        cleanup_dist_env_and_memory,
        init_distributed_environment,
        initialize_model_parallel,
    )

    meeting = tmp_path_factory.mktemp("group") / "meeting"
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{meeting}", 0, "gloo")
        initialize_model_parallel()
    yield
    cleanup_dist_env_and_memory()
