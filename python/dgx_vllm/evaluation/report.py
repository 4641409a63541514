"""Report: what was measured, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from dgx_vllm.evaluation.divergence import Divergence
from dgx_vllm.evaluation.layer_errors import Layer


def console() -> Console:
    """Where tables go: piped into a file or a pager, they keep their lines whole."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=160)


def dump(values: Mapping[str, Any]) -> None:
    """Prints JSON."""
    print(msgspec.json.format(msgspec.json.encode(values), indent=1).decode())


def layers(measured: Sequence[Layer]) -> Table:
    """A row for each layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("relative error", overflow="fold")
    for header in ("matrices", "from", "to"):
        table.add_column(header, justify="right")
    for header in ("weights", "output", "in NVFP4", "square to NVFP4's"):
        table.add_column(header, justify="right")
    for layer in measured:
        figures = (layer.error, layer.output, layer.nvfp4, layer.share)
        table.add_row(
            layer.name,
            str(layer.matrices),
            layer.before,
            layer.after,
            *("" if figure is None else f"{figure:.4f}" for figure in figures),
        )
    return table


def text(divergence: Divergence) -> Table:
    """What changed in the predictions."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"over {divergence.tokens:,} tokens")
    for header in ("before", "after"):
        table.add_column(header, justify="right")
    table.add_row("perplexity", f"{divergence.perplexity_before:.4f}", f"{divergence.perplexity_after:.4f}")
    bound = "" if divergence.exact else "at least "
    table.add_row("KL from before, nats a token", "", f"{bound}{divergence.kl:.6f}")
    table.add_row("same likeliest token", "", f"{divergence.agreement:.2%}")
    return table
