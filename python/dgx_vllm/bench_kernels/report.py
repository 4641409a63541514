"""The report: a table of what was measured."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from dgx_vllm.bench_kernels.measurements import Row


def line(row: Row) -> str:
    """A row, as soon as it is there."""
    return f"{row.shape:<14} {row.m:>3} {row.kernel:<34} {row.us:9.2f} us {row.gbps:7.0f} GB/s"


def show(rows: Sequence[Row], device: str, read_gbps: float) -> None:
    """Prints the rows, and what they are measured against."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=160)
    console.print(f"{device}: streaming read {read_gbps:.0f} GB/s; microseconds a layer", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("shape", overflow="fold")
    table.add_column("tokens", justify="right")
    table.add_column("kernel", overflow="fold")
    for header in ("us", "GB/s", "of read", "against Marlin", "against Humming", "against dense"):
        table.add_column(header, justify="right")
    previous = None
    for row in rows:
        if previous not in (None, (row.shape, row.m)):
            table.add_section()
        previous = (row.shape, row.m)
        table.add_row(
            row.shape,
            str(row.m),
            row.kernel,
            f"{row.us:.2f}",
            f"{row.gbps:.0f}",
            f"{row.fraction_of_read:.0%}",
            *(
                "" if ratio is None else f"{ratio:.2f}x"
                for ratio in (row.vs_marlin, row.vs_humming, row.vs_dense)
            ),
        )
    console.print(table)
