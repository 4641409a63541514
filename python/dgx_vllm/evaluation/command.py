"""`dgx-vllm eval`: from words to what an option costs."""

from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.evaluation import divergence, engine, layer_errors, report
from dgx_vllm.evaluation.divergence import Subject
from dgx_vllm.evaluation.quantized_view import Served, option
from dgx_vllm.evaluation.tensors import Tensors
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.util import progress_bar
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say


def evaluate(
    model: str,
    environ: Mapping[str, str],
    *,
    dense_dtype: Dtype,
    against: str | None,
    text: Path | None,
    tokens: int,
    as_json: bool,
) -> None:
    """Prints how far a model is, as served, from the one that it is measured against.

    Args:
        model: a directory, a profile's name or a Hugging Face id in the cache.
        environ: the process's environment.
        dense_dtype: what the layers that the checkpoint left in BF16 become.
        against: another checkpoint of the model, as it is; by default `model` as it is.
        text: for perplexity and KL, through vLLM; vLLM must serve both models on this machine.
        tokens: of the text to look at.
        as_json: JSON instead of tables.

    Raises:
        UserError: anything that the user must fix.
    """
    if dense_dtype == "bf16" and against is None:
        raise UserError("there is nothing to measure; give --dense-dtype fp8, or --against CHECKPOINT")
    if text:
        engine.text(text)
    after = Served(Tensors(model, environ), option(dense_dtype))
    before = Served(after.checkpoint if against is None else Tensors(against, environ))
    pairs = layer_errors.changed(before, after)
    size = sum(old.size + new.size for old, new in pairs)
    with progress_bar.shown(size, 0, "weights") as tell:
        layers = list(layer_errors.compare(before, after, pairs, tell))
    unknown = max(before.unknown, after.unknown)
    if unknown:
        say(f"{unknown} matrices are in formats that are not compared; BF16, FP16, F32, FP8 and NVFP4 are")
    text_divergence = None
    if text:
        subjects = Subject(before.checkpoint.directory), Subject(after.checkpoint.directory, dense_dtype)
        text_divergence = divergence.measure(*subjects, text, tokens)
    if as_json:
        values = {"model": model, "dense_dtype": dense_dtype, "against": against or model}
        report.dump({**values, "layers": layers, "text": text_divergence})
        return
    console = report.console()
    option_text = "" if dense_dtype == "bf16" else f" --dense-dtype {dense_dtype}"
    console.print(f"{model}{option_text}, against {against or 'itself without it'}", markup=False)
    console.print(report.layers(layers))
    if text_divergence:
        console.print(report.text(text_divergence))
