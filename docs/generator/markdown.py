"""Markdown that every generated page needs."""

from collections.abc import Iterable, Iterator, Sequence

#: Below the title of each page.
NOTE = "Generated from the code by `python docs/generator`. Change the code, not this page."


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, with an empty line after it."""
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(cell(text) for text in row)} |"
    yield ""
