"""`dgx-vllm eval-prune`: what pruning cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from dgx_vllm.checkpoints import sparsity
from dgx_vllm.checkpoints.sparsity import Sparsity
from dgx_vllm.evaluation import divergence, engine, report
from dgx_vllm.evaluation.divergence import Divergence, Subject
from dgx_vllm.prune import blocks, deviation
from dgx_vllm.prune.calibration import Calibration
from dgx_vllm.prune.deviation import Deviation
from dgx_vllm.prune.source import Source
from dgx_vllm.util.errors import UserError


def evaluate(
    model: str,
    pruned: str,
    environ: Mapping[str, str],
    *,
    text: Path | None,
    tokens: int,
    calibration: Path | None,
    as_json: bool,
) -> None:
    """Prints how far a pruned checkpoint is from the one it was made from.

    Args:
        model, pruned: directories, profiles' names or Hugging Face ids in the cache.
        environ: the process's environment.
        text: for perplexity and KL, through vLLM.
        tokens: of the text to look at.
        calibration: inputs to compare experts on.
        as_json: JSON instead of tables.

    Raises:
        UserError: anything that the user must fix.
    """
    before, after = Source(model, environ), Source(pruned, environ)
    declared = after.sparsity
    if declared is None:
        raise UserError(f"{pruned} is not marked as pruned; give a checkpoint that `dgx-vllm prune` wrote")
    if text:
        engine.text(text)
    inputs = Calibration(calibration) if calibration else None
    pruned_blocks = blocks.find(model, before.tensors, shared=sparsity.SHARED in declared.targets)
    layers = list(deviation.of(before, after, pruned_blocks, inputs))
    on_text = (
        divergence.measure(Subject(before.directory), Subject(after.directory), text, tokens)
        if text
        else None
    )
    if as_json:
        values = {"sparsity": declared, "blocks": layers, "text": on_text}
        report.dump(values)
    else:
        _show(
            pruned,
            declared,
            layers,
            on_text,
            "the calibration's inputs" if inputs else "drawn inputs",
        )


def _show(
    name: str,
    declared: Sparsity,
    layers: Sequence[Deviation],
    on_text: Divergence | None,
    inputs: str,
) -> None:
    console = report.console()
    console.print(
        f"{name}: {declared.pattern} by {declared.method}, {', '.join(declared.targets)}", markup=False
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"relative error on {inputs}", overflow="fold")
    for header in ("gate", "up", "down", "expert", "cosine"):
        table.add_column(header, justify="right")
    for layer in layers:
        figures = (layer.gate, layer.up, layer.down, layer.output, layer.cosine)
        table.add_row(layer.block, *("" if figure is None else f"{figure:.4f}" for figure in figures))
    console.print(table)
    if on_text:
        console.print(report.text(on_text))
