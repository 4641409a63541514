"""Memory: how much, whose, how much of it is page cache, swap, and the limits of control groups."""

import re
from pathlib import PurePosixPath

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import meminfo, spark
from dgx_vllm.host.compute_capability import GB10
from dgx_vllm.host.machine import GIB
from dgx_vllm.launch.settings.sources import UNIFIED_MEMORY_UTILIZATION

# Swapping that is more than leftovers of a start.
_SWAPPED = GIB

# Of Ubuntu's kernels for NVIDIA and its generic ones, those that the reports name.
_WITH_HANDOVER = re.compile(r"7\.0\.0-(1019|31)(?!\d)")

_AREA = "memory"


def findings(place: Place, gpu: Gpu | str) -> list[Finding]:
    """What /proc/meminfo and the control group say.

    Args:
        place: where to look.
        gpu: what NVML says; it decides whether the memory is the GPU's as well.
    """
    info = meminfo.parse(place.read("/proc/meminfo") or "")
    if "MemTotal" not in info:
        return [Finding(_AREA, "memory", Status.UNKNOWN, "/proc/meminfo cannot be read", "mount /proc")]
    unified = isinstance(gpu, Gpu) and gpu.unified
    return [
        _memory(info, gpu, unified),
        _page_cache(info, unified),
        _swap(info, unified),
        _cgroup(place, info, unified),
        *_handover(place, info, unified),
    ]


def _memory(info: dict[str, int], gpu: Gpu | str, unified: bool) -> Finding:
    total, available = info["MemTotal"], info.get("MemAvailable", info.get("MemFree", 0))
    own = gpu.memory if isinstance(gpu, Gpu) else None
    size = spark.of(total).label if unified and isinstance(gpu, Gpu) and gpu.capability == GB10 else None
    data = {"total": total, "available": available, "unified": unified, "gpu": own, "spark": size}
    value = f"{_gib(available)} GiB available of {_gib(total)} GiB"
    if own is not None:
        return Finding(
            _AREA, "memory", Status.OK, f"{value}; the GPU has {_gib(own)} GiB of its own", data=data
        )
    if not unified:
        return Finding(_AREA, "memory", Status.OK, value, data=data)
    value = f"{f'{size} Spark: ' if size else ''}{value}, shared with the GPU"
    wanted = float(UNIFIED_MEMORY_UTILIZATION) * total
    if available < wanted:
        return Finding(
            _AREA,
            "memory",
            Status.WARN,
            f"{value}; serve takes less than its default share of {UNIFIED_MEMORY_UTILIZATION}, "
            f"{_gib(wanted)} GiB",
            "stop what uses it, or see what still fits: dgx-vllm plan MODEL",
            data,
        )
    return Finding(_AREA, "memory", Status.OK, value, data=data)


def _page_cache(info: dict[str, int], unified: bool) -> Finding:
    cache = (
        info.get("Cached", 0) + info.get("Buffers", 0) + info.get("SReclaimable", 0) - info.get("Shmem", 0)
    )
    # CUDA's own count takes it for used (unslothai/unsloth#10705); vLLM 0.32 asks for MemAvailable on an
    # integrated GPU instead (vllm/utils/mem_utils.py, MemorySnapshot.measure).
    why = "; vLLM counts it as free" if unified else ""
    return Finding(_AREA, "page cache", Status.OK, f"{_gib(cache)} GiB{why}", data={"bytes": cache})


def _swap(info: dict[str, int], unified: bool) -> Finding:
    total, used = info.get("SwapTotal", 0), info.get("SwapTotal", 0) - info.get("SwapFree", 0)
    data = {"total": total, "used": used}
    if not total:
        return Finding(_AREA, "swap", Status.OK, "none", data=data)
    value = f"{_gib(used)} GiB used of {_gib(total)} GiB"
    if used > _SWAPPED and unified:
        return Finding(
            _AREA,
            "swap",
            Status.WARN,
            f"{value}: a Spark under memory pressure can hang (open-gpu-kernel-modules#1358)",
            "stop what uses memory, then sudo swapoff -a && sudo swapon -a",
            data,
        )
    return Finding(_AREA, "swap", Status.OK, value, data=data)


def _cgroup(place: Place, info: dict[str, int], unified: bool) -> Finding:
    limit = _limit(place)
    data = {"limit": limit, "binds_gpu": None if not unified else False}
    if unified:
        # 12 GiB of CUDA memory under MemoryMax=8G, memory.current at 0.4 GB, not killed
        # (Blackwellboy/model-serving-minefield#57).
        if limit is None:
            return Finding(
                _AREA,
                "control group",
                Status.OK,
                "no limit; it would not cover CUDA's memory here, serve's watch on MemAvailable does",
                data=data,
            )
        return Finding(
            _AREA,
            "control group",
            Status.WARN,
            f"limit of {_gib(limit)} GiB, which does not cover CUDA's memory",
            "rely on serve's watch on MemAvailable (--memory-floor), not on MemoryMax",
            data,
        )
    if limit is not None and limit < info["MemTotal"]:
        return Finding(_AREA, "control group", Status.OK, f"limit of {_gib(limit)} GiB", data=data)
    return Finding(_AREA, "control group", Status.OK, "no limit", data=data)


def _handover(place: Place, info: dict[str, int], unified: bool) -> list[Finding]:
    """Kexec handover (KHO): kernels that keep memory for the next kernel and forget that it is in use.

    Seen on Sparks with the kernels 7.0.0-1019 and 7.0.0-31: CmaFree above CmaTotal, 26 GiB less memory, and
    NCCL cannot register its own. kho=off fixed it, and so did 6.17.0-1032
    (MiaAI-Lab/DeepSeek-V4-Flash-DSpark#259, eugr/spark-vllm-docker#389, #392).
    """
    total, free = info.get("CmaTotal"), info.get("CmaFree")
    kernel = (place.read("/proc/sys/kernel/osrelease") or "").strip()
    off = "kho=off" in (place.read("/proc/cmdline") or "").split()
    wrong = total is not None and free is not None and free > total
    suspect = unified and not off and bool(_WITH_HANDOVER.match(kernel))
    if not wrong and not suspect:
        return []
    seen = (
        f"CmaFree {_gib(free or 0)} GiB is above CmaTotal {_gib(total or 0)} GiB"
        if wrong
        else "no sign of it yet"
    )
    return [
        Finding(
            _AREA,
            "kexec handover",
            Status.WARN,
            f"kernel {kernel or 'unknown'}: {seen}; with KHO, Sparks lost 26 GiB of memory and NCCL failed",
            "boot a 6.17 kernel, or with kho=off (GRUB_CMDLINE_LINUX in /etc/default/grub, sudo update-grub)",
            {"kernel": kernel, "cma_total": total, "cma_free": free, "kho_off": off},
        )
    ]


def _limit(place: Place) -> int | None:
    """The smallest memory.max from this process's group up, in bytes (cgroup v2), None without one."""
    lines = (place.read("/proc/self/cgroup") or "").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    limits = []
    for group in (PurePosixPath(own), *PurePosixPath(own).parents):
        text = (place.read(f"/sys/fs/cgroup{group}/memory.max") or "").strip()
        if text.isdigit():
            limits.append(int(text))
    return min(limits, default=None)


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}"
