"""Disk space: whether the disk has room for what is still to come, and what to say when it has not."""

import errno
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dgx_vllm.host.machine import GIB
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import FAILURE, UserError

MARGIN = GIB
"""Bytes to leave free."""


@dataclass(frozen=True)
class Room:
    """The room on the disk of a directory.

    Args:
        free: bytes.
        fault: why nothing can be written there, None where it can.
    """

    free: int
    fault: str | None


def room(directory: Path) -> Room:
    """Looks at the disk where a directory is, or would be made."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    fault = None
    try:
        # By trying: root passes every permission check, also where no file can be made.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        fault = error.strerror or str(error)
    return Room(_free(existing), fault)


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def check(directory: Path, needed: int, task: str, place: str, margin: int = 0) -> None:
    """Refuses before the first byte.

    Args:
        directory: what is filled, such as the cache; it need not exist.
        needed: bytes still to come.
        task: what needs them, such as `downloading owner/name`.
        place: the option or variable that names another directory.
        margin: bytes to leave free.

    Raises:
        UserError: they do not fit with the margin, or the directory cannot be written.
    """
    disk = room(directory)
    if disk.fault:
        raise UserError(
            f"{directory} cannot be written ({disk.fault}), and {task} needs it; set {place} to a writable "
            "directory",
            FAILURE,
        )
    if needed and disk.free < needed + margin:
        spare = f" and {gb(margin)} to spare" if margin else ""
        raise UserError(
            f"the disk is too full: {task} needs {gb(needed)} more{spare} in {directory}, where "
            f"{gb(disk.free)} are free; make room, or set {place} to a larger disk",
            FAILURE,
        )


@dataclass(frozen=True)
class Purpose:
    """What a directory is filled for, as messages say it.

    Args:
        done: the verb, such as `downloaded`.
        place: the option or variable that names another directory.
    """

    done: str
    place: str


DOWNLOAD = Purpose("downloaded", "HF_HOME")


def fault(error: OSError, directory: Path, model: str, purpose: Purpose = DOWNLOAD) -> UserError:
    """What a failed write means, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"the disk filled up while {model} was {purpose.done} into {directory}; the data so far is "
            f"kept; make room, or set {purpose.place} to a larger disk, then run this again",
            FAILURE,
        )
    return UserError(
        f"{model} cannot be stored in {directory} ({error.strerror or error}); the data so far is kept; fix "
        f"that, or set {purpose.place} to another disk",
        FAILURE,
    )
