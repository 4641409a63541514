"""As many GPUs as FAKE_GPUS names, each `NAME[:BYTES]`; without it the library does not load."""

import os
from types import SimpleNamespace


class NVMLError(Exception):
    pass


def _gpus() -> list[str]:
    return [word for word in os.environ.get("FAKE_GPUS", "").split(",") if word]


def nvmlInit() -> None:  # noqa: N802
    if not _gpus():
        raise NVMLError("NVML Shared Library Not Found")


def nvmlShutdown() -> None:  # noqa: N802
    pass


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> str:  # noqa: N802
    return _gpus()[index]


def nvmlDeviceGetName(handle: str) -> str:  # noqa: N802
    return handle.split(":")[0]


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:  # noqa: N802
    if ":" not in handle:
        raise NVMLError("Not Supported")  # as on GB10
    return SimpleNamespace(total=int(handle.split(":")[1]))
