"""The one kind of error a user is meant to read."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """What is wrong and what to do about it, in one line."""


def exit_with(main: Callable[[list[str]], int]) -> None:
    """Run `main` on the command line's arguments; a UserError becomes one line on stderr and exit status
    1."""
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as failure:
        sys.stderr.write(f"error: {failure}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
