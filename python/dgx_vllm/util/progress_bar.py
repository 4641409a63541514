"""Progress: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dgx_vllm.util import messages
from dgx_vllm.util.progress_lines import Progress as Lines

Tell = Callable[[int], None]


@contextmanager
def shown(total: int, done: int, what: str) -> Iterator[Tell]:
    """A function to tell of bytes that have been read or written.

    Args:
        total: bytes in all.
        done: bytes that were there before.
        what: is being done.
    """
    if messages.on_terminal():
        with _bar(total, done, what, DownloadColumn(), TransferSpeedColumn()) as tell:
            yield tell
        return
    lines, at = Lines(total, done), done

    def note(count: int) -> None:
        nonlocal at
        at += count
        lines.at(at)

    yield note


@contextmanager
def counted(total: int, what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Tell]:
    """The same of things that are counted, such as tokens.

    Args:
        total: how many in all.
        what: is being done, with the things' name.
        clock: seconds.
    """
    if messages.on_terminal():
        with _bar(total, 0, what, MofNCompleteColumn()) as tell:
            yield tell
        return
    at, following = 0, clock() + messages.progress_seconds()

    def note(count: int) -> None:
        nonlocal at, following
        at += count
        if clock() >= following:
            following = clock() + messages.progress_seconds()
            messages.say(f"{what}: {at:,} of {total:,}")

    yield note


@contextmanager
def _bar(total: int, done: int, what: str, *columns: ProgressColumn) -> Iterator[Tell]:
    columns = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
