"""Progress: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dgx_vllm.download.progress import Progress as Lines


@contextmanager
def shown(total: int, done: int, what: str) -> Iterator[Callable[[int], None]]:
    """A function to tell of bytes that have been written.

    Args:
        total: bytes in all.
        done: bytes that were there before.
        what: is being written.
    """
    if not sys.stderr.isatty():
        lines, at = Lines(total, done), done

        def tell(count: int) -> None:
            nonlocal at
            at += count
            lines.at(at)

        yield tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
