"""The kernel's account of the memory, and what is said where it lacks the estimate."""

from pathlib import Path

import pytest

from dgx_vllm.host import meminfo
from dgx_vllm.util.errors import UserError


def test_a_kernel_without_the_estimate(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       1000 kB\nMemFree:         500 kB\n")
    # No option is advised: `serve` has none that states the memory.
    with pytest.raises(UserError, match=r"has no MemAvailable, .*; mount the kernel's own /proc$"):
        meminfo.available(path)
    path.write_text("MemTotal:       1000 kB\nMemAvailable:    500 kB\n")
    assert meminfo.available(path) == 500 * 1024


def test_amounts_are_in_bytes_and_lines_that_are_none_are_left_out() -> None:
    text = "MemTotal:       1000 kB\nHugePages_Total:       3\nMemFree: many kB\nActive(anon):      7 kB\n"
    assert meminfo.parse(text) == {"MemTotal": 1000 * 1024, "Active(anon)": 7 * 1024}
