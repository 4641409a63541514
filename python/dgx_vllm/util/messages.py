"""Messages to the user: lines on standard error, where they do not mix with what a script reads."""

import contextlib
import os
import sys
from collections.abc import Iterator

_TERMINAL_SECONDS = 5.0
_JOURNAL_SECONDS = 15.0


def say(message: str) -> None:
    """Prints one message, with the program's name in front."""
    say_line(f"dgx-vllm: {message}")


def say_line(line: str) -> None:
    """Prints one line as it is."""
    with _survive_closed_terminal():
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Whether a person sees the messages on a terminal, rather than a journal or a file."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress_seconds() -> float:
    """Seconds between two lines of progress: a terminal has to look alive, a journal has to stay short."""
    return _TERMINAL_SECONDS if on_terminal() else _JOURNAL_SECONDS


@contextlib.contextmanager
def _survive_closed_terminal() -> Iterator[None]:
    """Drops what cannot be written because the terminal is closed: the program goes on."""
    try:
        yield
    except OSError:
        # Python would flush once more at its end, fail, and exit with status 120.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)
