"""Room on the disk: what is refused before anything is written, and in which words."""

import os
import shutil
from pathlib import Path

import pytest

from dgx_vllm.host import disk_space
from dgx_vllm.util.errors import UserError

GB = 10**9


@pytest.fixture
def four_gb_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * GB, 5 * GB, 4 * GB))


@pytest.mark.usefixtures("four_gb_free")
def test_what_does_not_fit_is_refused_in_gb(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "there"
    disk_space.check(directory, 4 * GB, "downloading a/b", "HF_HOME")
    with pytest.raises(
        UserError,
        match=rf"^the disk is too full: downloading a/b needs 5\.0 GB more in {directory}, where 4\.0 GB are "
        "free; make room, or set HF_HOME to a larger disk$",
    ):
        disk_space.check(directory, 5 * GB, "downloading a/b", "HF_HOME")
    assert not directory.parent.exists()


@pytest.mark.usefixtures("four_gb_free")
def test_margin_is_left_free_unless_nothing_is_needed(tmp_path: Path) -> None:
    disk_space.check(tmp_path, 3 * GB, "pruning a/b", "OUT", margin=GB)
    with pytest.raises(UserError, match=r"needs 3\.0 GB more and 1\.1 GB to spare in "):
        disk_space.check(tmp_path, 3 * GB, "pruning a/b", "OUT", margin=1_100_000_000)
    disk_space.check(tmp_path, 0, "pruning a/b", "OUT", margin=5 * GB)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_directory_without_permission_is_refused_with_the_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\), and vLLM's"):
        disk_space.check(tmp_path / "cache", 1, "vLLM's cache", "VLLM_CACHE_ROOT")


def test_file_system_that_takes_no_files_is_refused() -> None:
    """Also for root, whom permissions do not stop."""
    with pytest.raises(UserError, match=r"^/proc/cache cannot be written \(.+\), and vLLM's cache needs it"):
        disk_space.check(Path("/proc/cache"), 1, "vLLM's cache", "VLLM_CACHE_ROOT")
