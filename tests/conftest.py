"""What every test gets: no caches but its own, no settings from outside."""

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("helpers")

with contextlib.suppress(ImportError):  # tests on a GPU's machine do without it
    import hypothesis

    # A loaded machine makes any example slow, which says nothing of what is tested.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")

# As the Nix sandbox has it: HOME may not exist, and only loopback is reachable.
_OURS = ("MODEL", "HOST", "PORT", "GPU_MEMORY_UTIL", "MAX_MODEL_LEN", "MAX_NUM_SEQS", "TENSOR_PARALLEL_SIZE")
_PREFIXES = ("VLLM_", "HF_", "TORCHINDUCTOR_", "TRITON_", "NOTIFY_", "WATCHDOG_")


def cache_variables(directory: Path) -> dict[str, str]:
    """Every cache that vLLM and what it loads would put into HOME, below a directory."""
    return {
        "HOME": str(directory),
        "XDG_CACHE_HOME": str(directory / "cache"),
        "XDG_STATE_HOME": str(directory / "state"),
        "XDG_RUNTIME_DIR": str(directory / "runtime"),
        "VLLM_CACHE_ROOT": str(directory / "cache" / "vllm"),
        "VLLM_CONFIG_ROOT": str(directory / "config"),
        "HF_HOME": str(directory / "cache" / "huggingface"),
        "TORCHINDUCTOR_CACHE_DIR": str(directory / "cache" / "inductor"),
        "TRITON_CACHE_DIR": str(directory / "cache" / "triton"),
    }


def clean_environment(directory: Path) -> dict[str, str]:
    """An environment for a child process: this one without settings from outside, with caches of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OURS and not name.startswith(_PREFIXES)
    }
    # A child must import what this process imports, installed or from the working tree.
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**kept, **cache_variables(directory), "PYTHONPATH": path, "COLUMNS": "160"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """`clean_environment` below the test's own directory."""
    return clean_environment(tmp_path)


@pytest.fixture
def run(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: its status, output and errors."""
    from dgx_vllm import cli

    def call(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["dgx-vllm", *map(str, words)])
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        captured = capsys.readouterr()
        status = ended.value.code
        return status if isinstance(status, int) else 0, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the package is not installed but on the path, vLLM must still find its plugin."""
    try:
        importlib.metadata.version("dgx-vllm")
    except importlib.metadata.PackageNotFoundError:
        site = tmp_path_factory.mktemp("site")
        metadata = site / "dgx_vllm-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: dgx-vllm\nVersion: 0\n")
        (metadata / "entry_points.txt").write_text(
            "[vllm.general_plugins]\ndgx_vllm = dgx_vllm.plugin:register\n"
            "[vllm.nvfp4_experts]\ndgx_vllm = dgx_vllm.plugin.moe.select:select\n"
            "[vllm.nvfp4_linear]\ndgx_vllm = dgx_vllm.plugin.dense.linear_backend:select\n"
            "[vllm.xgrammar_limits]\ndgx_vllm = dgx_vllm.structured.request_check:check\n"
        )
        sys.path.insert(0, str(site))


@pytest.fixture(scope="session")
def session_environment(plugin: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`clean_environment` for all of the session's servers: the second finds the first one's caches."""
    return clean_environment(tmp_path_factory.mktemp("session"))


@pytest.fixture(scope="session")
def vllm_environment(session_environment: dict[str, str]) -> Iterator[None]:
    """The session's caches, loopback only, and the engine in this process (fewer start-ups)."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    import torch

    # One thread computes so small a model fastest, and spinning threads stall on a loaded machine. The CPU
    # worker replaces this function for good, so it is put back.
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    torch.set_num_threads(1)
    if torch.cpu._is_amx_tile_supported():
        # vLLM's attention uses these registers without asking Linux for them, and is killed (SIGILL).
        torch.cpu._init_amx()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**session_environment, **settings}.items():
            patch.setenv(name, value)
        yield
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(threads)


@pytest.fixture
def on_gb10(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's Python takes this machine for a GB10. What asks on import has been imported before."""
    import vllm.model_executor.layers.fused_moe.oracle.nvfp4
    import vllm.model_executor.layers.quantization.online.fp8  # noqa: F401
    from vllm import platforms
    from vllm.platforms.interface import DeviceCapability

    platform = type(platforms.current_platform)
    monkeypatch.setattr(platform, "_enum", platforms.PlatformEnum.CUDA)
    monkeypatch.setattr(
        platform, "get_device_capability", classmethod(lambda cls, device_id=0: DeviceCapability(12, 1))
    )
    monkeypatch.setattr(platform, "get_device_name", classmethod(lambda cls, device_id=0: "NVIDIA GB10"))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of no kernels, for the GPUs that ours is for: choosing does not load it."""
    from helpers.doctoring import cubin
    from helpers.doctoring import library as made_of

    path = tmp_path / "libdgx_kernels.so"
    path.write_bytes(made_of(cubin("sm_121a"), cubin("sm_90a")))
    monkeypatch.setenv("DGX_VLLM_KERNELS_LIBRARY", str(path))
    return path


@pytest.fixture
def gb10(on_gb10: None, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What chooses layers finds a GB10 with vLLM's CUTLASS and our library, and neither is called."""
    import torch
    from vllm.model_executor.kernels.linear.nvfp4 import cutlass
    from vllm.model_executor.layers.fused_moe.experts import flashinfer_cutlass_moe
    from vllm.model_executor.layers.quantization.utils import nvfp4_utils

    monkeypatch.setattr(flashinfer_cutlass_moe, "has_flashinfer_cutlass_fused_moe", lambda: False)
    for module in (cutlass, nvfp4_utils):
        monkeypatch.setattr(module, "cutlass_fp4_supported", lambda: True)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the plugin warns of, from a state in which nothing was logged once."""
    from vllm import logger

    logger._print_warning_once.cache_clear()
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep(logging.WARNING)
    log = logging.getLogger("vllm.plugins.dgx_vllm")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests gave to `record_property`: a build's log then holds what was measured."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {name} {value}"
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if figures:
        terminalreporter.section("reported figures")
        for line in figures:
            terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where the driver shows none."""
    if not Path("/proc/driver/nvidia/gpus").exists() and not Path("/dev/nvidiactl").exists():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
