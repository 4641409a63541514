"""Good starts: what the machine was like when a server last became ready, and what has changed since.

A system update that breaks a set-up shows here: a new kernel, another driver, another build of this package.
"""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

import dgx_vllm
from dgx_vllm.host import driver
from dgx_vllm.launch.process import registry

_FILE = "starts.json"
# As many models as one tries on a machine; the oldest are forgotten.
_KEPT = 32


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A server that became ready, or would now.

    Args:
        model: the model by the name that was asked for.
        time: when, in seconds since 1970.
        kernel: Linux's release.
        driver: the version of NVIDIA's kernel module, None without one.
        system: the operating system's name and version.
        package: this package's version.
        build: the environment that it ran from.
    """

    model: str
    time: float
    kernel: str
    driver: str | None
    system: str
    package: str
    build: str

    @property
    def day(self) -> str:
        return time.strftime("%Y-%m-%d", time.localtime(self.time))


def now(model: str, root: Path = Path("/")) -> Start:
    """What a start of a model would be like at this moment."""
    return Start(
        model=model,
        time=time.time(),
        kernel=_read(root / "proc/sys/kernel/osrelease").strip(),
        driver=driver.kernel_version(root),
        system=_system(_read(root / "etc/os-release")),
        package=dgx_vllm.__version__,
        build=sys.prefix,
    )


def record(start: Start, environ: Mapping[str, str]) -> None:
    """Remembers a start; what cannot be written is left out."""
    path = _path(environ)
    if path is None:
        return
    kept = sorted(
        (earlier for earlier in read(path) if earlier.model != start.model),
        key=lambda earlier: earlier.time,
        reverse=True,
    )
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode([start, *kept[: _KEPT - 1]]))
        partial.replace(path)


def last(environ: Mapping[str, str], model: str | None = None, root: Path = Path("/")) -> Start | None:
    """The last start of a model, of any where none is given; None where none is known.

    Those of the services are looked at too, as far as this user may.
    """
    own = _path(environ)
    starts = read(own) if own else []
    with contextlib.suppress(OSError):
        for path in (root / "var/lib").glob(f"dgx-vllm*/.local/state/dgx-vllm/{_FILE}"):
            starts += read(path)
    wanted = [start for start in starts if model is None or start.model == model]
    return max(wanted, key=lambda start: start.time, default=None)


def changes(before: Start, after: Start) -> list[str]:
    """What has changed, such as `kernel 6.17.0-1008-nvidia -> 7.0.0-1019-nvidia`."""
    named = {
        "kernel": (before.kernel, after.kernel),
        "NVIDIA driver": (before.driver or "none", after.driver or "none"),
        "system": (before.system, after.system),
        "dgx-vllm": (before.package, after.package),
    }
    changed = [f"{name} {old} -> {new}" for name, (old, new) in named.items() if old != new]
    if before.package == after.package and before.build != after.build:
        changed.append(f"another build of dgx-vllm {after.package}")
    return changed


def read(path: Path) -> list[Start]:
    """The starts in a file; none where it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Start])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []


def _path(environ: Mapping[str, str]) -> Path | None:
    servers = registry.directory(environ)
    return servers.parent / _FILE if servers else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _system(text: str) -> str:
    """The name in os-release(5)."""
    fields = dict(line.partition("=")[::2] for line in text.splitlines())
    return fields.get("PRETTY_NAME", "").strip("\"'")
