"""What the kernel says of the machine's memory in /proc/meminfo."""

import re
from pathlib import Path

from dgx_vllm.util.errors import FAILURE, UserError

_MEMINFO = Path("/proc/meminfo")
# The kernel writes kB and means KiB (man 5 proc).
_FIELD = re.compile(r"^(\S+):\s+(\d+) kB$", re.MULTILINE)


def parse(text: str) -> dict[str, int]:
    """The fields of /proc/meminfo that are amounts, in bytes."""
    return {name: int(count) * 1024 for name, count in _FIELD.findall(text)}


def available(path: Path = _MEMINFO) -> int:
    """Bytes that can be had without swapping, by the kernel's own estimate (MemAvailable).

    Raises:
        UserError: the kernel does not say.
    """
    count = parse(path.read_text()).get("MemAvailable")
    if count is None:
        raise UserError(
            f"{path} has no MemAvailable, which Linux has from 3.14 on; mount the kernel's own /proc", FAILURE
        )
    return count
