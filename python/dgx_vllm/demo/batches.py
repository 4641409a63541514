"""Documents as padded token batches."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from dgx_vllm.demo.corpus import Document, documents
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, TURN_START, special_id

#: Tokens after which a training document is cut.
MAX_LENGTH = 128
#: Batches are cut from pools of this many, sorted by length, so that little of a batch is padding.
_POOL = 16


@dataclass(frozen=True)
class Batch:
    """Token ids int64 [batch, length] and which of them count towards the loss, bool [batch, length]."""

    ids: torch.Tensor
    scored: torch.Tensor


def tokenize(tokenizer: Tokenizer, document: Document) -> tuple[list[int], list[bool]]:
    """Token ids of a document, and which of them the model is to predict (not what the user says)."""
    ids: list[int] = []
    scored: list[bool] = []

    def add(text: str, score: bool) -> None:
        new = tokenizer.encode(text).ids
        ids.extend(new)
        scored.extend([score] * len(new))

    if isinstance(document, str):
        add(document, True)
        add(END_OF_TEXT, True)
    for turn in () if isinstance(document, str) else document:
        add(f"{TURN_START}user\n{turn.user}{TURN_END}\n{TURN_START}assistant\n", False)
        add(turn.assistant + TURN_END, True)
        add("\n", False)
    return ids[:MAX_LENGTH], scored[:MAX_LENGTH]


def _pad(rows: list[tuple[list[int], list[bool]]], pad_id: int) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    scored = torch.zeros((len(rows), length), dtype=torch.bool)
    for row, (tokens, flags) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        scored[row, : len(tokens)] = torch.tensor(flags)
    return Batch(ids, scored)


def batches(tokenizer: Tokenizer, seed: int, size: int, drill: float = 0.0) -> Iterator[Batch]:
    """An endless stream of batches of `size` documents of similar length, padded on the right.

    `seed` and `drill` are those of `corpus.documents`.
    """
    stream = (tokenize(tokenizer, document) for document in documents(seed, drill))
    pad_id = special_id(tokenizer, END_OF_TEXT)
    generator = torch.Generator().manual_seed(seed)
    while True:
        pool = sorted(itertools.islice(stream, size * _POOL), key=lambda row: len(row[0]))
        for index in torch.randperm(_POOL, generator=generator).tolist():
            yield _pad(pool[index * size : (index + 1) * size], pad_id)
