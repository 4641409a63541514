"""GPU, compute capability, driver and CUDA."""

import importlib.metadata

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import driver
from dgx_vllm.host.compute_capability import GB10, dotted

_AREA = "gpu"
_INSTALL = "on a DGX Spark install the driver (DGX OS: sudo apt install nvidia-driver-580-open) and restart"


def findings(place: Place, gpu: Gpu | str) -> list[Finding]:
    """What the driver shows.

    Args:
        place: where to look.
        gpu: what NVML says.
    """
    results = [_vllm(place), _gpu(place, gpu)]
    if isinstance(gpu, Gpu):
        results.append(_capability(gpu))
    return [*results, _driver(place, gpu), *_cuda(gpu)]


def _vllm(place: Place) -> Finding:
    if place.vllm is None:
        return Finding(
            _AREA,
            "vLLM",
            Status.FAIL,
            "not installed for this Python",
            "run dgx-vllm from its own environment (nix run .#doctor, or the installed command)",
        )
    value = f"{place.vllm.version}, {place.vllm.platform} build"
    return Finding(
        _AREA,
        "vLLM",
        Status.OK,
        value,
        data={"version": place.vllm.version, "platform": place.vllm.platform},
    )


def _gpu(place: Place, gpu: Gpu | str) -> Finding:
    if isinstance(gpu, Gpu):
        more = f" and {gpu.count - 1} more" if gpu.count > 1 else ""
        memory = ", shares the host's memory" if gpu.unified else ""
        return Finding(
            _AREA,
            "GPU",
            Status.OK,
            f"{gpu.name}{more}{memory}",
            data={"name": gpu.name, "count": gpu.count, "unified": gpu.unified},
        )
    names = [
        line.partition(":")[2].strip()
        for path in sorted((place.root / "proc/driver/nvidia/gpus").glob("*/information"))
        for line in path.read_text().splitlines()
        if line.startswith("Model:")
    ]
    if names:  # the kernel module is there, NVML is not
        return Finding(
            _AREA,
            "GPU",
            Status.FAIL,
            f"{names[0]}, which NVML does not see: {gpu}",
            f"make libnvidia-ml.so.1 visible, or name its directory in {driver.VARIABLE}",
            {"name": names[0], "count": len(names), "reason": gpu},
        )
    data = {"count": 0, "reason": gpu}
    if place.vllm is not None and place.vllm.platform == "cuda":
        return Finding(_AREA, "GPU", Status.FAIL, f"no NVIDIA GPU here ({gpu})", _INSTALL, data)
    # Nothing is wrong: it is the build for machines without one.
    value = "no NVIDIA GPU here; the CPU build serves the demo without, models need a CUDA build and a GPU"
    return Finding(_AREA, "GPU", Status.OK, value, data=data)


def _capability(gpu: Gpu) -> Finding:
    subject = "compute capability"
    if gpu.capability is None:
        return Finding(
            _AREA,
            subject,
            Status.UNKNOWN,
            "NVML does not say",
            "nvidia-smi --query-gpu=compute_cap --format=csv",
        )
    text = dotted(gpu.capability)
    data = {"capability": text}
    if gpu.capability == GB10:
        return Finding(_AREA, subject, Status.OK, f"{text} (GB10)", data=data)
    return Finding(
        _AREA,
        subject,
        Status.WARN,
        f"{text}; profiles and kernels here are made for {dotted(GB10)} (GB10)",
        "check a profile's values before relying on them: dgx-vllm serve MODEL --dry-run",
        data,
    )


def _driver(place: Place, gpu: Gpu | str) -> Finding:
    kernel = driver.kernel_version(place.root)
    installed = place.driver
    version = (isinstance(gpu, Gpu) and gpu.driver) or (installed and installed.version) or kernel
    data = {
        "version": version or None,
        "kernel": kernel,
        "directory": str(installed.directory) if installed else None,
        "minimum": driver.MINIMUM,
    }

    def finding(status: Status, value: str, remedy: str | None = None) -> Finding:
        return Finding(_AREA, "driver", status, value, remedy, data)

    if place.fault:
        value, _, remedy = place.fault.partition("; ")
        return finding(Status.FAIL, value, remedy)
    if not version:
        if place.vllm is not None and place.vllm.platform == "cpu":
            return finding(Status.OK, "none; the CPU build needs none")
        return finding(Status.FAIL, "none found", _INSTALL)
    if driver.too_old(version):
        return finding(
            Status.FAIL, f"{version} is too old for CUDA 13, which needs {driver.MINIMUM}", driver.UPGRADE
        )
    if installed is None:
        return finding(
            Status.FAIL,
            f"{version}, whose libcuda.so.1 was not found",
            f"name its directory in {driver.VARIABLE}",
        )
    if driver.mismatched(installed, kernel):
        return finding(Status.FAIL, f"libraries {installed.version}, kernel module {kernel}", driver.RESTART)
    return finding(
        Status.OK, f"{version}, {len(installed.libraries)} libraries linked from {installed.directory}"
    )


def _cuda(gpu: Gpu | str) -> list[Finding]:
    if not isinstance(gpu, Gpu) or gpu.cuda is None:
        return []
    runtime = _runtime()
    text = f"{gpu.cuda[0]}.{gpu.cuda[1]}"
    data = {"driver": text, "runtime": runtime}
    if gpu.cuda < (13, 0):
        return [
            Finding(
                _AREA, "CUDA", Status.FAIL, f"the driver runs {text}, vLLM needs 13.0", driver.UPGRADE, data
            )
        ]
    return [Finding(_AREA, "CUDA", Status.OK, f"driver {text}, runtime {runtime or 'unknown'}", data=data)]


def _runtime() -> str | None:
    """The CUDA runtime in this environment, by its distribution."""
    try:
        return importlib.metadata.version("nvidia-cuda-runtime")
    except importlib.metadata.PackageNotFoundError:
        return None
