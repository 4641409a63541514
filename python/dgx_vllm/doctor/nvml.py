"""What NVML says of the first GPU, each value or None: GB10 supports only some of the queries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SM_CLOCK = 1  # NVML_CLOCK_SM (nvml.h)
_GPU_SENSOR = 0  # NVML_TEMPERATURE_GPU


@dataclass(frozen=True)
class Gpu:
    """One GPU as it is now.

    Args:
        name: the driver's name for it.
        count: how many GPUs there are.
        driver: the driver's version.
        cuda: the newest CUDA that the driver runs, as (major, minor).
        capability: the compute capability.
        memory: its own memory in bytes; None where it shares the host's (GB10).
        clock: the SM clock in MHz.
        most_clock: the highest SM clock in MHz.
        reasons: why the clock is not higher, as NVML's bits.
        power: in W.
        temperature: in degrees Celsius.
        busy: the share of time in which a kernel ran, in percent.
    """

    name: str
    count: int = 1
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    capability: tuple[int, int] | None = None
    memory: int | None = None
    clock: int | None = None
    most_clock: int | None = None
    reasons: int | None = None
    power: float | None = None
    temperature: int | None = None
    busy: int | None = None

    @property
    def unified(self) -> bool:
        """Whether it has no memory of its own."""
        return self.memory is None


def read(nvml: Any) -> Gpu | str:
    """The first GPU, or why there is none to see, in a few words."""
    if nvml is None:
        return "no NVML binding is installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _text(str(error))
    try:
        count = int(nvml.nvmlDeviceGetCount())
        return _gpu(nvml, count) if count else "the driver shows no GPU"
    except nvml.NVMLError as error:
        return _text(str(error))
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, count: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(0)

    def ask(convert: Callable[[Any], Any], *queries: str, arguments: tuple[Any, ...] = (handle,)) -> Any:
        for query in queries:
            function = getattr(nvml, query, None)
            if function is None:
                continue
            try:
                return convert(function(*arguments))
            except nvml.NVMLError:  # not supported by this GPU
                continue
        return None

    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        count=count,
        driver=ask(_text, "nvmlSystemGetDriverVersion", arguments=()),
        cuda=ask(
            lambda number: (number // 1000, number % 1000 // 10),
            "nvmlSystemGetCudaDriverVersion",
            arguments=(),
        ),
        capability=ask(tuple, "nvmlDeviceGetCudaComputeCapability"),
        memory=ask(lambda info: int(info.total), "nvmlDeviceGetMemoryInfo"),
        clock=ask(int, "nvmlDeviceGetClockInfo", arguments=(handle, _SM_CLOCK)),
        most_clock=ask(int, "nvmlDeviceGetMaxClockInfo", arguments=(handle, _SM_CLOCK)),
        reasons=ask(
            int, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        ),
        power=ask(lambda milliwatts: milliwatts / 1000, "nvmlDeviceGetPowerUsage"),
        temperature=ask(int, "nvmlDeviceGetTemperature", arguments=(handle, _GPU_SENSOR)),
        busy=ask(lambda rates: int(rates.gpu), "nvmlDeviceGetUtilizationRates"),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
