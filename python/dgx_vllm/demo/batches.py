"""Documents as padded token batches."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from dgx_vllm.demo.corpus import Document, documents
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, TURN_START, special_id

#: Tokens after which a training document is cut; counting to the end takes fewer.
MAX_LENGTH = 192
#: Batches are cut from pools of this many, sorted by length, so that little of a batch is padding.
_POOL = 16


@dataclass(frozen=True)
class Row:
    """Token ids, and which of them the model is to predict."""

    ids: tuple[int, ...]
    scored: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Token ids int64 [batch, length] and which of them count towards the loss, bool [batch, length]."""

    ids: torch.Tensor
    scored: torch.Tensor


def row(tokenizer: Tokenizer, parts: Iterable[tuple[str, bool]]) -> Row:
    """Texts, each with whether the model is to predict it, as one row of at most `MAX_LENGTH` tokens."""
    ids: list[int] = []
    scored: list[bool] = []
    for text, score in parts:
        new = tokenizer.encode(text).ids
        ids += new
        scored += [score] * len(new)
    return Row(tuple(ids[:MAX_LENGTH]), tuple(scored[:MAX_LENGTH]))


def tokenize(tokenizer: Tokenizer, document: Document) -> Row:
    """A document as a row: what the user says is not predicted."""
    if isinstance(document, str):
        return row(tokenizer, [(document + END_OF_TEXT, True)])
    parts: list[tuple[str, bool]] = []
    for turn in document:
        parts += [
            (f"{TURN_START}user\n{turn.user}{TURN_END}\n{TURN_START}assistant\n", False),
            (turn.assistant + TURN_END, True),
            ("\n", False),
        ]
    return row(tokenizer, parts)


def pad(rows: Sequence[Row], pad_id: int, device: torch.device) -> Batch:
    """Rows as one batch, padded on the right with what is not scored."""
    length = max(len(tokens.ids) for tokens in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    scored = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, tokens in enumerate(rows):
        ids[index, : len(tokens.ids)] = torch.tensor(tokens.ids)
        scored[index, : len(tokens.ids)] = torch.tensor(tokens.scored)
    return Batch(ids.to(device), scored.to(device))


def batches(tokenizer: Tokenizer, seed: int, size: int, device: torch.device) -> Iterator[Batch]:
    """An endless stream of batches of `size` documents of similar length; `seed` is `corpus.documents`'."""
    stream = (tokenize(tokenizer, document) for document in documents(seed))
    pad_id = special_id(tokenizer, END_OF_TEXT)
    generator = torch.Generator().manual_seed(seed)
    while True:
        pool = sorted(itertools.islice(stream, size * _POOL), key=lambda tokens: len(tokens.ids))
        for index in torch.randperm(_POOL, generator=generator).tolist():
            yield pad(pool[index * size : (index + 1) * size], pad_id, device)
