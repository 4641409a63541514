"""How a command ends where it cannot go on: one line on stderr, and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
import tempfile
from collections.abc import Callable
from types import FrameType

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UserError(Exception):
    """What is wrong and what to do about it, in one line."""


def remedy(said: str) -> str:
    """What to do about a program that failed with these words."""
    if "No space left" in said:
        return f"make room in {tempfile.gettempdir()} and on the store's disk, then run this again"
    return "run this again"


def _interrupt(number: int, _: FrameType | None) -> None:
    # What cleans up after the first one is not interrupted by a second. Programs started from here on would
    # inherit SIG_IGN, and could then not be ended.
    for each in _INTERRUPTIONS:
        signal.signal(each, lambda *_: None)
    raise KeyboardInterrupt(number)


def exit_with(main: Callable[[list[str]], int]) -> None:
    """Run `main` on the command line's arguments and exit with its status.

    A UserError or an error of the system becomes one line and status 1, a signal one line and 128 + number.
    """
    for each in _INTERRUPTIONS:
        # nohup ignores SIGHUP for us; nix/offline.sh ignores SIGINT only until here.
        if each == signal.SIGINT or signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, _interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        _leave(str(error), 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = remedy("No space left") if error.errno == errno.ENOSPC else "check it, then run this again"
        _leave(f"{where}{error.strerror or error}: {what}", 1)
    except KeyboardInterrupt as interruption:
        _leave("interrupted: run the same command to go on", 128 + interruption.args[0])


def _leave(line: str, status: int) -> None:
    sys.stderr.write(f"error: {line}\n")
    sys.exit(status)
