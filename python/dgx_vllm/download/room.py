"""Room: whether the disk takes what is still to come, and what to say when it does not."""

import errno
import shutil
import tempfile
from pathlib import Path

from dgx_vllm.errors import FAILURE, UserError
from dgx_vllm.machine import GIB
from dgx_vllm.plan.units import gb

MARGIN = GIB
"""Bytes to leave free."""

_REMEDY = "make room, or set HF_HOME to a larger disk"


def check(directory: Path, needed: int, model: str) -> None:
    """Refuses before the first byte.

    Args:
        directory: the cache, which need not exist.
        needed: bytes still to come.
        model: for the message.

    Raises:
        UserError: they do not fit with the margin, or the cache cannot be written.
    """
    existing = next(each for each in (directory, *directory.absolute().parents) if each.exists())
    try:
        # By trying: root passes every permission check, also where no file can be made.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}), and downloading {model} needs it; "
            "set HF_HOME to a directory that can",
            FAILURE,
        ) from error
    free = shutil.disk_usage(existing).free
    if needed and free < needed + MARGIN:
        raise UserError(
            f"the disk is too full: {model} needs {gb(needed)} more and {gb(MARGIN)} to spare "
            f"in {directory}, where {gb(free)} are free; {_REMEDY}",
            FAILURE,
        )


def fault(error: OSError, directory: Path, model: str) -> UserError:
    """What a failed write means, in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"the disk filled up while {model} was downloaded into {directory}; what came is kept; "
            f"{_REMEDY}, then run this again",
            FAILURE,
        )
    return UserError(
        f"{model} cannot be stored in {directory} ({error.strerror or error}); what came is kept; "
        "mend that, or set HF_HOME to another disk",
        FAILURE,
    )
