"""Room: whether the disk takes what is still to come, and what to say when it does not."""

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
class Purpose:
    """What room is needed for, as messages say it.

    Args:
        doing, done: the verb, with "into" what is being filled.
        place: what the user sets to another place.
    """

    doing: str
    done: str
    place: str


DOWNLOAD = Purpose("downloading", "downloaded", "HF_HOME")


def check(directory: Path, needed: int, model: str, purpose: Purpose = DOWNLOAD) -> None:
    """Refuses before the first byte.

    Args:
        directory: what is filled, such as the cache; it need not exist.
        needed: bytes still to come.
        model, purpose: for the message.

    Raises:
        UserError: they do not fit with the margin, or the directory cannot be written.
    """
    existing = next(each for each in (directory, *directory.absolute().parents) if each.exists())
    try:
        # By trying: root passes every permission check, also where no file can be made.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}), and {purpose.doing} {model} needs it; set "
            f"{purpose.place} to a writable directory",
            FAILURE,
        ) from error
    free = shutil.disk_usage(existing).free
    if needed and free < needed + MARGIN:
        raise UserError(
            f"the disk is too full: {model} needs {gb(needed)} more and {gb(MARGIN)} to spare "
            f"in {directory}, where {gb(free)} are free; make room, or set {purpose.place} to a larger disk",
            FAILURE,
        )


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
