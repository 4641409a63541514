"""Divergence: how far a model's predictions are from those that it gave before a change, on a text."""

import contextlib
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from dgx_vllm.evaluation import engine_environment, refusal
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.util import progress_bar, signals
from dgx_vllm.util.errors import UserError

_SCORED = re.compile(r"scored (\d+) of (\d+)")


@dataclass(frozen=True)
class Subject:
    """A model to run.

    Args:
        directory: the checkpoint.
        dense_dtype: what the layers that it left in BF16 become.
    """

    directory: Path
    dense_dtype: Dtype = "bf16"

    def __str__(self) -> str:
        option = "" if self.dense_dtype == "bf16" else f" --dense-dtype {self.dense_dtype}"
        return f"{self.directory}{option}"


@dataclass(frozen=True)
class Divergence:
    """Of two models on the same tokens.

    Args:
        tokens: how many were predicted.
        perplexity_before, perplexity_after: exp of the mean -log p, in nats.
        kl: the mean of KL(before || after), in nats a token.
        exact: whether the whole vocabulary was compared; otherwise `kl` is a lower bound, for what only one
            of the models was asked about counts as one event.
        agreement: the share of tokens at which both hold the same one for the likeliest.
    """

    tokens: int
    perplexity_before: float
    perplexity_after: float
    kl: float
    exact: bool
    agreement: float


def measure(before: Subject, after: Subject, text: Path, tokens: int) -> Divergence:
    """Runs both models over a text, one after the other.

    Args:
        before, after: what to compare.
        text: UTF-8.
        tokens: of the text to look at.

    Raises:
        UserError: a model does not run here, or the text is too short.
    """
    with tempfile.TemporaryDirectory() as place:
        scores = [
            score(subject, text, Path(place) / f"{i}", tokens, f"tokens, run {i + 1} of 2")
            for i, subject in enumerate((before, after))
        ]
    if not torch.equal(scores[0]["token"], scores[1]["token"]):
        raise UserError(
            f"{after.directory} splits the text into other tokens than {before.directory}; give checkpoints "
            "of one model"
        )
    if not scores[0]["token"].numel():
        raise UserError(f"{text} is too short to predict anything; give more text")
    return compare(*scores)


def score(subject: Subject, text: Path, out: Path, tokens: int, label: str) -> dict[str, torch.Tensor]:
    """Runs a model over a text; see `dgx_vllm.evaluation.score`.

    Args:
        subject: what to run.
        text: UTF-8.
        out: the file that the run writes.
        tokens: of the text to look at.
        what: is shown next to the progress.

    Raises:
        UserError: the model does not run here.
    """
    words = (subject.directory, text, out, tokens, subject.dense_dtype)
    command = [sys.executable, "-m", "dgx_vllm.evaluation.score", *map(str, words)]
    environ = engine_environment.prepared(os.environ, subject.directory)
    with (
        signals.as_interrupt(),
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        signals.child(command, stdout=subprocess.PIPE, stderr=errors, env=environ, text=True) as process,
    ):
        assert process.stdout is not None
        _show(process.stdout, label)
        process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if process.returncode or not out.is_file():
        raise refusal.of(subject, lines, f"status {process.returncode}")
    return load_file(out)


def compare(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> Divergence:
    """Both as `score` writes them."""
    divergences, logs, same, exact = [], ([], []), 0, True  # type: ignore[var-annotated]
    for i, token in enumerate(before["token"].tolist()):
        p, q = (_known(score, i) for score in (before, after))
        common = p.keys() & q.keys()
        exact &= common == p.keys() == q.keys() and _rest(p, common) < 1e-3
        rest = _rest(p, common), _rest(q, common)
        divergence = sum(math.exp(p[candidate]) * (p[candidate] - q[candidate]) for candidate in common)
        if min(rest) > 1e-6:
            divergence += rest[0] * math.log(rest[0] / rest[1])
        divergences.append(max(divergence, 0.0))
        logs[0].append(p[token])
        logs[1].append(q[token])
        same += max(p, key=p.__getitem__) == max(q, key=q.__getitem__)
    count = len(divergences)
    return Divergence(
        count,
        math.exp(-sum(logs[0]) / count),
        math.exp(-sum(logs[1]) / count),
        sum(divergences) / count,
        exact,
        same / count,
    )


def _known(score: Mapping[str, torch.Tensor], row: int) -> dict[int, float]:
    pairs = zip(score["ids"][row].tolist(), score["logs"][row].tolist(), strict=True)
    return {token: log for token, log in pairs if token >= 0}


def _rest(known: Mapping[int, float], common: set[int]) -> float:
    """The probability of all that is not in common."""
    return max(1 - sum(math.exp(known[candidate]) for candidate in common), 0.0)


def _show(lines: Iterable[str], label: str) -> None:
    """Turns what `score` prints into progress; vLLM prints among it."""
    with contextlib.ExitStack() as stack:
        tell: Callable[[int], None] | None = None
        previous = 0
        for line in lines:
            progress = _SCORED.fullmatch(line.strip())
            if progress:
                done, total = int(progress[1]), int(progress[2])
                tell = tell or stack.enter_context(progress_bar.counted(total, label))
                tell(done - previous)
                previous = done
