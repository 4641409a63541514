"""Memory: what is left for the KV cache, and what fits into it."""

from collections.abc import Sequence
from dataclasses import dataclass

from dgx_vllm.plan.cache import Cache
from dgx_vllm.plan.overheads import OFFLOADED, Overhead


@dataclass(frozen=True)
class Budget:
    """One memory, divided.

    Args:
        available: bytes that can be had.
        origin: who says so.
        reserve: bytes to leave alone.
        weights: bytes of weights.
        overheads: what else is taken.
    """

    available: int
    origin: str
    reserve: int
    weights: int
    overheads: tuple[Overhead, ...]

    @property
    def overhead(self) -> int:
        return sum(overhead.bytes for overhead in self.overheads)

    @property
    def offloaded(self) -> int:
        """Bytes of the overhead that hold what the KV cache drops."""
        return sum(overhead.bytes for overhead in self.overheads if overhead.name == OFFLOADED)

    @property
    def cache(self) -> int:
        """Bytes left for the KV cache; below 0 where the model itself does not fit."""
        return self.available - self.reserve - self.weights - self.overhead


@dataclass(frozen=True)
class Row:
    """How many sequences of one length fit.

    Args:
        context: tokens in each.
        sequence_bytes: what one takes.
        sequences: how many fit at once.
    """

    context: int
    sequence_bytes: int
    sequences: int


def lengths(longest: int | None) -> list[int]:
    """Context lengths worth a row, up to the model's own limit."""
    limit = longest or 131072
    powers = [1024 * 4**exponent for exponent in range(6) if 1024 * 4**exponent < limit]
    return [*powers[-5:], limit]


def fit(cache: Cache, budget: int, contexts: Sequence[int]) -> list[Row]:
    """What fits into a KV cache of `budget` bytes."""
    return [
        Row(context, cache.sequence_bytes(context), cache.sequences(budget, context)) for context in contexts
    ]
