"""Prompts, and what the demo model answers to them with greedy decoding, to the letter."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from dgx_vllm.demo.paths import CONTINUATIONS


@dataclass(frozen=True)
class Completion:
    """For /v1/completions.

    Attributes:
        prompt: what is sent.
        text: how the answer begins. Where `stops`, it is the whole answer.
        stops: whether the model then ends its text.
    """

    prompt: str
    text: str
    stops: bool = False


@dataclass(frozen=True)
class Chat:
    """For /v1/chat/completions.

    Attributes:
        messages: what is sent, each with the keys `role` and `content`.
        text: the whole answer; the model then ends its turn.
    """

    messages: tuple[dict[str, str], ...]
    text: str


@cache
def _table() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(CONTINUATIONS.read_text(encoding="utf-8"))


def completions() -> tuple[Completion, ...]:
    """All completions, the plainest first."""
    return tuple(Completion(**row) for row in _table()["completions"])


def chats() -> tuple[Chat, ...]:
    """All conversations, the plainest first."""
    return tuple(Chat(tuple(row["messages"]), row["text"]) for row in _table()["chats"])
