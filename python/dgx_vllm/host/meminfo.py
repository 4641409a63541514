"""What the kernel says of the machine's memory."""

import re
from pathlib import Path

from dgx_vllm.util.errors import FAILURE, UserError

_MEMINFO = Path("/proc/meminfo")


def available(path: Path = _MEMINFO) -> int:
    """Bytes that can be had without swapping, by the kernel's own estimate (MemAvailable).

    Raises:
        UserError: the kernel does not say.
    """
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    if match is None:
        raise UserError(
            f"{path} has no MemAvailable, which Linux has from 3.14 on; mount the kernel's own /proc", FAILURE
        )
    return int(match[1]) * 1024
