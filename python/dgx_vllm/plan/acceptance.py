"""Acceptance: how many drafted tokens hold, by their position in the draft, and by what is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dgx_vllm.plan import gb10
from dgx_vllm.util.errors import UserError

_OPTION = "--acceptance"


@dataclass(frozen=True)
class Acceptance:
    """What share of steps keeps the draft at each position, all drafts before it being kept too.

    It is what vLLM logs as `Per-position acceptance rate`, and `dgx-vllm serve` says at its end.

    Args:
        shares: from 0 to 1, none above the one before.
        origin: where they are from.
        content: what is written, such as code or prose; None where that is not said.
        counts: the numbers of drafts for which tokens a step were published, None where each share was. For
            others they are derived.
    """

    shares: tuple[float, ...]
    origin: str
    content: str | None = None
    counts: tuple[int, ...] | None = None

    def tokens(self, drafts: int) -> float:
        """Tokens that a step yields with so many drafts, no more than there are shares."""
        return 1 + sum(self.shares[:drafts])

    def derived(self, drafts: int) -> bool:
        """Whether nobody published the tokens that a step yields with so many drafts."""
        return drafts > 0 and self.counts is not None and drafts not in self.counts


def of_counts(content: str, tokens: Mapping[str, float], origin: str) -> Acceptance:
    """From the tokens that a step yields by the number of drafts, as a profile lists them.

    Below and between those numbers each draft is taken to hold with the same probability once all before it
    hold. Beyond the largest nothing is derived.

    Args:
        content: what is written.
        tokens: by the number of drafts, as text.
        origin: who published them.

    Raises:
        UserError: a number of drafts is not one, or so many drafts cannot yield those tokens.
    """
    where = f"{origin}, drafts.accepted.{content}"
    by_count: dict[int, float] = {}
    for text, yielded in tokens.items():
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"{where}: {text!r} is not a number of drafts; write one such as 3")
        if not 1 <= yielded <= 1 + int(text):
            raise UserError(
                f"{where}: {text} drafts yield from 1 to {int(text) + 1} tokens a step, not {yielded:g}; "
                "correct it"
            )
        by_count[int(text)] = yielded
    shares: list[float] = []
    before = 1.0
    for count in sorted(by_count):
        gain = by_count[count] - before
        shares += _shares(shares[-1] if shares else 1.0, gain, count - len(shares))
        before = by_count[count]
    return Acceptance(tuple(shares), origin, content, tuple(sorted(by_count)))


def _shares(first: float, gain: float, count: int) -> list[float]:
    """Shares of `count` positions after one that holds with the share `first`, which add up to `gain`.

    Each is the one before times the same factor. Published figures that no factor from 0 to 1 meets, as those
    of different texts may be, are spread evenly.
    """
    if not 0 <= gain <= first * count:
        return [gain / count] * count
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if first * sum(middle**place for place in range(1, count + 1)) < gain:
            low = middle
        else:
            high = middle
    return [first * high**place for place in range(1, count + 1)]


def published() -> Acceptance:
    """Qwen3-Next's, from the tokens that a step yields with 1, 2 and 3 drafts."""
    tokens = [1.0, *(gb10.PUBLISHED_ACCEPTANCE[count] for count in sorted(gb10.PUBLISHED_ACCEPTANCE))]
    shares = tuple(round(more - less, 6) for less, more in pairwise(tokens))
    return Acceptance(
        shares,
        "published for Qwen3-Next-80B-A3B; give --acceptance what `dgx-vllm serve` says at its end for your "
        "own requests",
    )


def parse(text: str) -> Acceptance:
    """From words such as `0.84,0.58`.

    Raises:
        UserError: they are not shares of that form.
    """
    try:
        shares = tuple(float(word) for word in text.split(","))
    except ValueError:
        shares = ()
    falling = all(before >= after for before, after in pairwise(shares))
    if not shares or not falling or not all(0 <= share <= 1 for share in shares):
        raise UserError(
            f"{_OPTION} {text!r} is not a list of shares; give one from 0 to 1 for each drafted token, none "
            f"above the one before, such as {_OPTION} 0.84,0.58, what `dgx-vllm serve` says at its end"
        )
    return Acceptance(shares, f"by {_OPTION}")
