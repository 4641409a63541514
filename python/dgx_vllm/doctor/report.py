"""What the user sees: one screen, or JSON."""

import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dgx_vllm.doctor.examination import Examination
from dgx_vllm.doctor.finding import Finding, Status

_PLAIN_WIDTH = 100
_SYMBOLS = {Status.OK: "✓", Status.WARN: "!", Status.FAIL: "✗", Status.UNKNOWN: "?"}
_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.UNKNOWN: "cyan"}


def show(examination: Examination) -> None:
    """Prints the screen."""
    console = Console(highlight=False)
    # Into a file or a pager goes the width that the screen is made for.
    screen(examination, console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH))


def dump(examination: Examination) -> None:
    """Prints the JSON."""
    json.dump(examination.json(), sys.stdout, indent=2)
    print()


def screen(examination: Examination, console: Console) -> None:
    """Prints the findings by area, each remedy below its fault, and a summary.

    Args:
        examination: what was found.
        console: where to; its width decides where lines break.
    """
    table = Table.grid(padding=(0, 1))
    for ratio in (None, None, None, 1):
        table.add_column(ratio=ratio, no_wrap=ratio is None, overflow="fold")
    area = None
    for finding in examination.findings:
        shown = "" if finding.area == area else finding.area
        area = finding.area
        table.add_row(Text(shown, "bold"), _status(finding, console), finding.subject, Text(finding.value))
        if finding.remedy:
            table.add_row("", "", "", Text(f"-> {finding.remedy}", "italic"))
    console.print(table)
    console.print(Text(_sum(examination), "bold"))


def _status(finding: Finding, console: Console) -> Text:
    symbol = _SYMBOLS[finding.status] if console.encoding.lower().startswith("utf") else ""
    return Text(f"{symbol} {finding.status}".strip(), _STYLES[finding.status])


def _sum(examination: Examination) -> str:
    counts = {
        status: sum(finding.status is status for finding in examination.findings)
        for status in (Status.FAIL, Status.WARN, Status.UNKNOWN)
    }
    words = {Status.FAIL: "to fix first", Status.WARN: "to improve", Status.UNKNOWN: "unknown"}
    listed = ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)
    # A machine without a GPU serves the demo, which is not what it would be asked about first.
    where = "" if examination.gpu else " (without a GPU)"
    verdict = f"this machine can serve{where}" if examination.serves else f"this machine cannot serve{where}"
    return f"{verdict}: {listed}" if listed else f"{verdict}; nothing to fix"
