"""The study behind docs/dev/decoding.md: what each choice of a precision for excluded layers costs.

    dgx-vllm exec python -m dgx_vllm.evaluation.study              the weights: a row for a model and choice
    dgx-vllm exec python -m dgx_vllm.evaluation.study --text FILE  and what becomes of predictions: 16 runs

Of the demo and of `synthetic`. Excluded are all matrices that the checkpoint left in BF16 but embeddings,
which are looked up, and routers and gates, which stay. For the predictions the rounded weights are written
back in BF16, so that the weights alone differ; the last rows are `--dense-dtype` as it is served. What the
least of changes does is there as well: every value moved to a neighbouring BF16 value, which too sends tokens
that are near the border of two experts elsewhere.
"""

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.evaluation import divergence, layer_errors, synthetic
from dgx_vllm.evaluation.divergence import Divergence, Subject
from dgx_vllm.evaluation.layer_errors import Layer
from dgx_vllm.evaluation.quantized_view import Option, Served
from dgx_vllm.evaluation.rounding import fp8_absmax, fp8_fitted, nvfp4, nvfp4_fitted
from dgx_vllm.evaluation.tensors import Tensors

_STAY = re.compile(r".*(embed_tokens|mlp\.gate|shared_expert_gate|in_proj_ba|conv1d)")
TOKENS = 4096


def excluded(module: str, stored: Stored) -> bool:
    """Whether a matrix is one that could be quantized and that the checkpoint left in BF16."""
    return stored.dtype == "BF16" and len(stored.shape) == 2 and not _STAY.fullmatch(module)


def _moved(_: Iterator[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Each value becomes one of its two neighbours in BF16, by a coin."""
    generator = torch.Generator().manual_seed(0)

    def moved(rows: torch.Tensor) -> torch.Tensor:
        coin = torch.randint(0, 2, rows.shape, generator=generator)
        # Of one sign and above nought, BF16's values are in the order of their bits.
        beside = (rows.to(torch.bfloat16).view(torch.int16) + 2 * coin - 1).to(torch.int16)
        return torch.where(rows == 0, rows, beside.view(torch.bfloat16).to(torch.float32))

    return moved


#: Against it all others are to be seen.
LEAST = Option("moved", _moved, excluded)
CHOICES: Mapping[str, Option] = {
    "FP8, absmax": Option("FP8", fp8_absmax, excluded),
    "FP8, fitted": Option("FP8", fp8_fitted, excluded),
    "NVFP4, absmax": Option("NVFP4", nvfp4, excluded),
    "NVFP4, fitted": Option("NVFP4", nvfp4_fitted, excluded),
}


@dataclass(frozen=True)
class Figures:
    """Of all layers of one model under one choice.

    Args:
        layers: what became of each.
    """

    layers: tuple[Layer, ...]

    def range(self, field: str, digits: int) -> str:
        """The least and the largest of a figure over the layers that have it."""
        values = [getattr(layer, field) for layer in self.layers if getattr(layer, field) is not None]
        least, most = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
        return least if least == most else f"{least} to {most}"


def weights(directory: Path, choice: Option) -> Figures:
    """What a choice makes of a checkpoint's excluded layers."""
    checkpoint = Tensors(str(directory), os.environ)
    before, after = Served(checkpoint), Served(checkpoint, choice)
    layers = layer_errors.compare(before, after, layer_errors.changed(before, after), lambda _: None)
    return Figures(tuple(layers))


def write(directory: Path, choice: Option, out: Path) -> Path:
    """A copy of a checkpoint whose excluded layers hold, in BF16, what a choice makes of them."""
    checkpoint = Tensors(str(directory), os.environ)
    after = Served(checkpoint, choice)
    out.mkdir()
    for path in directory.iterdir():
        if path not in checkpoint.shards:
            shutil.copyfile(path, out / path.name)
    changed = {f"{new.module}.weight" for _, new in layer_errors.changed(Served(checkpoint), after)}
    for path, shard in checkpoint.shards.items():
        tensors = {name: checkpoint.tensor(name) for name in shard.tensors}
        for name in changed & tensors.keys():
            read = after.reader(name.removesuffix(".weight"))
            parts = [read(*chunk) for chunk in after.chunks(name.removesuffix(".weight"))]
            tensors[name] = torch.cat(parts).to(tensors[name].dtype)
        save_file(tensors, out / path.name, metadata={"format": "pt"})
    return out


def predictions(directory: Path, text: Path, place: Path) -> Iterator[tuple[str, Divergence]]:
    """How far each choice's predictions are from those in BF16."""
    before = divergence.score(Subject(directory), text, place / "bf16", TOKENS, "BF16")
    for number, (name, choice) in enumerate({"BF16, moved": LEAST, **CHOICES}.items()):
        out = write(directory, choice, place / f"checkpoint-{number}")
        after = divergence.score(Subject(out), text, place / f"scores-{number}", TOKENS, name)
        yield name, divergence.compare(before, after)
    for dtype in ("fp8", "nvfp4"):
        served = divergence.score(Subject(directory, dtype), text, place / f"served-{dtype}", TOKENS, dtype)
        yield f"--dense-dtype {dtype}", divergence.compare(before, served)


def table(models: Mapping[str, Path]) -> Table:
    """The weights."""
    shares = Table("", "choice", "weights", "output", "square to NVFP4's")
    for model, directory in models.items():
        for name, choice in CHOICES.items():
            of = weights(directory, choice)
            shares.add_row(model, name, of.range("error", 4), of.range("output", 4), of.range("share", 4))
    return shares


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="dgx-vllm exec python -m dgx_vllm.evaluation.study")
    parser.add_argument("--text", type=Path, metavar="FILE")
    text = parser.parse_args().text
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        models = {"demo": CHECKPOINT, "synthetic": synthetic.write(place / "synthetic")}
        console.print(table(models))
        if text is None:
            return
        text_table = Table(
            "", "choice", "perplexity, BF16", "perplexity", "KL, nats a token", "same likeliest token"
        )
        for model, directory in models.items():
            (place / f"{model}-runs").mkdir()
            for choice, measured in predictions(directory, text, place / f"{model}-runs"):
                figures = (
                    f"{measured.perplexity_before:.3f}",
                    f"{measured.perplexity_after:.3f}",
                    f"{measured.kl:.5f}",
                )
                text_table.add_row(model, choice, *figures, f"{measured.agreement:.2%}")
        console.print(text_table)


if __name__ == "__main__":
    main()
