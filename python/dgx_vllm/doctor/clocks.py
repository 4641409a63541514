"""Clocks and throttling."""

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.nvml import Gpu

# NVML's bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReasons).
_HARMLESS = {
    0x1: "idle",
    0x2: "clocks set by hand",
    0x4: "power cap",
    0x10: "sync boost",
    0x100: "display clocks",
}
_HARMFUL = {
    0x8: "hardware slowdown",
    0x20: "too warm (software)",
    0x40: "too warm (hardware)",
    0x80: "power brake",
}

# A Spark whose USB-C power contract has gone wrong stays near 800 MHz and 20 W under load, where a healthy
# one runs at 2280 MHz and 92 W, and NVML gives no reason. Taking it off the mains fixed it, a restart did
# not (Blackwellboy/model-serving-minefield#55, measured; hasso5703/dgx-spark-qwen38#8 saw 695-890 MHz).
_STUCK_MHZ = 1000
_BUSY_PERCENT = 50

_COOL = "improve its airflow, or cap the clock: sudo nvidia-smi -lgc 0,2100 (open-gpu-kernel-modules#1358)"
_MAINS = "shut down, unplug the power supply from the mains, start again (a restart is not enough)"

_AREA = "clocks"


def findings(gpu: Gpu | str) -> list[Finding]:
    """The SM clock and what holds it down, as they are at this moment."""
    if not isinstance(gpu, Gpu):
        return []
    return [_clock(gpu), _throttling(gpu)]


def _clock(gpu: Gpu) -> Finding:
    data = {
        "sm_mhz": gpu.clock,
        "sm_mhz_most": gpu.most_clock,
        "power_w": gpu.power,
        "temperature_c": gpu.temperature,
        "busy_percent": gpu.busy,
    }
    if gpu.clock is None:
        return Finding(_AREA, "SM clock", Status.UNKNOWN, "NVML does not say", "nvidia-smi -q -d CLOCK", data)
    parts = [
        f"{gpu.clock} MHz" + (f" of {gpu.most_clock}" if gpu.most_clock else ""),
        f"{gpu.power:.0f} W" if gpu.power is not None else "",
        f"{gpu.temperature} °C" if gpu.temperature is not None else "",
        f"{gpu.busy}% busy" if gpu.busy is not None else "",
    ]
    value = ", ".join(filter(None, parts))
    if gpu.busy is not None and gpu.busy >= _BUSY_PERCENT and gpu.clock < _STUCK_MHZ:
        return Finding(_AREA, "SM clock", Status.WARN, f"{value}: stuck low under load", _MAINS, data)
    return Finding(_AREA, "SM clock", Status.OK, value, data=data)


def _throttling(gpu: Gpu) -> Finding:
    if gpu.reasons is None:
        return Finding(
            _AREA, "throttling", Status.UNKNOWN, "NVML does not say", "nvidia-smi -q -d PERFORMANCE"
        )
    names = {**_HARMLESS, **_HARMFUL}
    active = [name for bit, name in sorted(names.items()) if gpu.reasons & bit]
    data = {"bits": gpu.reasons, "reasons": active}
    harmful = [name for bit, name in _HARMFUL.items() if gpu.reasons & bit]
    if harmful:
        warm = gpu.reasons & (0x20 | 0x40)
        return Finding(_AREA, "throttling", Status.WARN, ", ".join(harmful), _COOL if warm else _MAINS, data)
    return Finding(_AREA, "throttling", Status.OK, ", ".join(active) or "none", data=data)
