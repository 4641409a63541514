"""Divergence: how far a pruned model's predictions are from the unpruned one's, on a text."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from dgx_vllm.errors import FAILURE, UserError

_SAID = 300


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


def measure(before: Path, after: Path, text: Path, tokens: int) -> Divergence:
    """Runs both models over a text, one after the other.

    Args:
        before, after: checkpoints.
        text: UTF-8.
        tokens: of the text to look at.

    Raises:
        UserError: a model does not run here, or the text is too short.
    """
    with tempfile.TemporaryDirectory() as place:
        scores = [_score(path, text, Path(place) / f"{i}", tokens) for i, path in enumerate((before, after))]
    if not torch.equal(scores[0]["token"], scores[1]["token"]):
        raise UserError(
            f"{after} cuts the text into other tokens than {before}; give checkpoints of one model"
        )
    if not scores[0]["token"].numel():
        raise UserError(f"{text} is too short to predict anything; give more text")
    return compare(*scores)


def compare(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> Divergence:
    """Both as `score` writes them."""
    divergences, logs, same, exact = [], ([], []), 0, True  # type: ignore[var-annotated]
    for i, token in enumerate(before["token"].tolist()):
        p, q = (_known(score, i) for score in (before, after))
        common = p.keys() & q.keys()
        exact &= common == p.keys() == q.keys() and _rest(p, common) < 1e-3
        rest = _rest(p, common), _rest(q, common)
        divergence = sum(math.exp(p[each]) * (p[each] - q[each]) for each in common)
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
    return max(1 - sum(math.exp(known[each]) for each in common), 0.0)


def _score(checkpoint: Path, text: Path, out: Path, tokens: int) -> dict[str, torch.Tensor]:
    command = [
        sys.executable,
        "-m",
        "dgx_vllm.prune.score",
        str(checkpoint),
        str(text),
        str(out),
        str(tokens),
    ]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ, text=True
    )
    if done.returncode or not out.is_file():
        last = next(iter(reversed(done.stderr.strip().splitlines())), f"status {done.returncode}")
        raise UserError(
            f"vLLM does not run {checkpoint} here ({last[:_SAID]}); `dgx-vllm serve {checkpoint} --dry-run` "
            "and `dgx-vllm doctor` say more",
            FAILURE,
        )
    return load_file(out)
