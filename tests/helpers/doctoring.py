"""What the doctor's tests share: machines made of files, a fake NVML, and GPU code made by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dgx_vllm.doctor.place import Place
from dgx_vllm.host import driver
from dgx_vllm.host.machine import GIB, Vllm

VERSION = "580.95.05"

# Of a file that the search only looks at: ELF magic, 64 bits, little endian, and the machine at byte 18.
_MACHINES = {"x86_64": 62, "aarch64": 183}

# The libraries of NVIDIA's cuda-compat packages, libnvidia-ml and its like: soname -> whether the file
# carries the driver's version.
_DRIVER = {
    "libcuda.so.1": True,
    "libcudadebugger.so.1": True,
    "libnvidia-ml.so.1": True,
    "libnvidia-gpucomp.so." + VERSION: True,
    "libnvidia-nvvm.so.4": True,
    "libnvidia-nvvm70.so.4": False,
    "libnvidia-ptxjitcompiler.so.1": True,
    "libnvidia-tileiras.so." + VERSION: True,
    "libnvidia-pkcs11-openssl3.so." + VERSION: True,
}
DRIVER_NAMES = frozenset(_DRIVER)
"""The names that a driver's libraries are loaded by."""

FOREIGN = (
    "libstdc++.so.6",
    "libssl.so.3",
    "libc.so.6",
    "libcudart.so.12",
    "libcublas.so.12",
    "libnvidia-container.so.1",
    "libnvidia-container-go.so.1.17.8",
    "libnvidia-egl-wayland.so.1.1.13",
    "libnvidia-ml.so.575.57.08",
)
"""What lies beside them on real hosts and must not be let in: the host's own, CUDA's, the container
toolkit's, and what an older driver left."""


def elf_head(machine: str) -> bytes:
    """As much of an ELF file as the search reads."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, _MACHINES[machine]) + bytes(44)


def install_driver(directory: Path, machine: str = "aarch64", version: str = VERSION) -> None:
    """A driver's libraries as a distribution lays them: files named by version, links named by soname."""
    directory.mkdir(parents=True, exist_ok=True)
    for soname, versioned in _DRIVER.items():
        soname = soname.replace(VERSION, version)
        file = f"{soname.partition('.so')[0]}.so.{version}" if versioned else soname
        (directory / file).write_bytes(elf_head(machine))
        if soname != file:
            (directory / soname).symlink_to(file)


def install_foreign(directory: Path, machine: str = "aarch64") -> None:
    """The neighbours of a driver's libraries."""
    for name in FOREIGN:
        (directory / name).write_bytes(elf_head(machine))


def load_module(root: Path, version: str = VERSION) -> None:
    """The kernel module's own account of itself."""
    path = root / "proc/driver/nvidia/version"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  {version}  Release Build  (b@host)\n"
        "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
    )


class NvmlError(Exception):
    """pynvml's."""


class FakeNvml:
    """NVML as a GB10 answers. Values by keyword: an exception is raised, None is what it does not support."""

    NVMLError = NvmlError

    def __init__(self, **values: Any) -> None:
        self.values = {
            "Init": None,
            "Count": 1,
            "Name": "NVIDIA GB10",
            "DriverVersion": VERSION,
            "Cuda": 13000,
            "Capability": (12, 1),
            "Memory": None,
            "Clock": 2281,
            "MaxClock": 3003,
            "Reasons": 0,
            "Power": 92500,
            "Temperature": 61,
            "Busy": 90,
            **values,
        }

    def _get(self, name: str) -> Any:
        value = self.values[name]
        if isinstance(value, Exception):
            raise value
        if value is None:
            raise NvmlError("Not Supported")
        return value

    def nvmlInit(self) -> None:  # noqa: N802
        if self.values["Init"] is not None:
            raise self.values["Init"]

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self._get("Count")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self._get("Name")

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self._get("DriverVersion")

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return self._get("Cuda")

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> list[int]:  # noqa: N802
        return list(self._get("Capability"))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=self._get("Memory"))

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:  # noqa: N802
        return self._get("Clock")

    def nvmlDeviceGetMaxClockInfo(self, handle: int, kind: int) -> int:  # noqa: N802
        return self._get("MaxClock")

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:  # noqa: N802
        return self._get("Reasons")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return self._get("Power")

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return self._get("Temperature")

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=self._get("Busy"))


def write_meminfo(root: Path, **gib: float) -> None:
    """/proc/meminfo, in GiB; a Spark at rest unless told otherwise."""
    values = {
        "MemTotal": 119.7,
        "MemFree": 60.0,
        "MemAvailable": 112.0,
        "Buffers": 1.0,
        "Cached": 50.0,
        "Shmem": 0.5,
        "SReclaimable": 2.0,
        "SwapTotal": 16.0,
        "SwapFree": 16.0,
        **gib,
    }
    path = root / "proc/meminfo"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}:{int(value * GIB / 1024):>16} kB" for name, value in values.items()]
    path.write_text("\n".join([*lines, "HugePages_Total:       0"]) + "\n")


def limit_memory(root: Path, text: str, group: str = "/user.slice/serve.service") -> None:
    """A control group, and this process in it."""
    own = root / "proc/self/cgroup"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(f"0::{group}\n")
    path = root / f"sys/fs/cgroup{group}/memory.max"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def fake_vllm(directory: Path, platform: str = "cuda", **modules: bytes) -> Vllm:
    """vLLM's package as far as the doctor reads it.

    Args:
        directory: where to make it.
        platform: what it is built for.
        modules: the extension modules by name; on CUDA those of 0.32.0 are made for a GB10 unless given here.
    """
    package = directory / "vllm"
    package.mkdir(parents=True, exist_ok=True)
    (package / "envs.py").write_text(
        "import os\n"
        'environment_variables: dict[str, object] = {"VLLM_USE_TRITON": None, "VLLM_API_KEY": None, '
        '"VLLM_PORT": lambda: int(os.getenv("VLLM_PORT", "0"))}\n'
    )
    if platform == "cuda":
        made = {
            "_C_stable_libtorch": library(cubin("sm_120f"), cubin("sm_120"), cubin("sm_90a")),
            "_moe_C_stable_libtorch": library(cubin("sm_120f")),
            "vllm_flash_attn/_vllm_fa2_C": library(cubin("sm_80"), ptx(80)),
            **modules,
        }
        for name, content in made.items():
            path = package / f"{name}.abi3.so"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return Vllm("0.32.0", "cuda" if platform == "cuda" else "cpu", package, has_command=platform == "cuda")


def spark(root: Path, environ: Mapping[str, str] | None = None, nvml: Any = None, **vllm: bytes) -> Place:
    """A DGX Spark in order, with DGX OS; the caller changes what is to be amiss.

    Args:
        root: an empty directory that stands for /.
        environ: what is set besides the caches.
        nvml: the fake NVML, a healthy one by default.
        vllm: see `fake_vllm`.
    """
    libraries = root / "usr/lib/aarch64-linux-gnu"
    install_driver(libraries)
    install_foreign(libraries)
    load_module(root)
    write_meminfo(root)
    limit_memory(root, "max")
    home = root / "home"
    home.mkdir(exist_ok=True)
    variables = {"HOME": str(home), "PORT": str(free_port()), **(environ or {})}
    return Place(
        environ=variables,
        vllm=fake_vllm(root / "env", **vllm),
        driver=driver.find(variables, root, "aarch64"),
        nvml=nvml or FakeNvml(),
        root=root,
    )


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# GPU code, laid out as dgx_vllm.kernels.fatbin documents it.


def cubin(arch: str) -> bytes:
    """A fatbin entry with machine code."""
    return _entry(2, arch.removeprefix("sm_"), elf([(b".text", b"")]))


def ptx(arch: int | str) -> bytes:
    """A fatbin entry with PTX."""
    return _entry(1, str(arch), b".version 9.0\n.target sm_80\n")


def library(*entries: bytes) -> bytes:
    """A shared object whose GPU code are these entries, each in a block of its own with padding behind it."""
    blocks = b"".join(
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry)) + entry + bytes(8) for entry in entries
    )
    return elf([(b".text", bytes(16)), (b".nv_fatbin", blocks)])


def elf(sections: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A 64-bit ELF file with these sections (System V gABI)."""
    names = b"\0"
    body = b""
    headers = [bytes(64)]
    for name, content in [*sections, (b".shstrtab", b"")]:
        at = len(names)
        names += name + b"\0"
        if name == b".shstrtab":
            content = names
        headers.append(struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(body), len(content), 0, 0, 1, 0))
        body += content + bytes(-len(content) % 8)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack(
        "<HHIQQQIHHHHHH", 3, 183, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(headers), len(headers) - 1
    )
    return head + body + b"".join(headers)


def _entry(kind: int, arch: str, content: bytes) -> bytes:
    number = arch.rstrip("af")
    padded = content + bytes(-len(content) % 8)
    header = bytearray(64)
    struct.pack_into("<HHIQ", header, 0, kind, 0x101, len(header), len(padded))
    struct.pack_into("<I", header, 28, int(number))
    # As nvcc 13.0.88 sets them: bits that every entry has, and the one for the suffix.
    flags = 0x1000011 | {"": 0, "a": 1 << 20, "f": 1 << 21}[arch.removeprefix(number)]
    struct.pack_into("<Q", header, 40, flags)
    return bytes(header) + padded
