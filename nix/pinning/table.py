"""Rows of packages and versions, as a person reads them."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

Row = tuple[str, str, str]

# Piped into a file or a journal there is no width to ask for.
console = Console(width=None if sys.stdout.isatty() else 110)


def show(title: str, headings: Row, rows: list[Row]) -> None:
    """Print `rows` under `headings`, or that there are none."""
    if not rows:
        console.print(f"{title}: none")
        return
    table = Table(title=f"{title}: {len(rows)}", title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
