"""Acceptance: how many drafted tokens hold, by their position in the draft."""

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
    """

    shares: tuple[float, ...]
    origin: str

    def tokens(self, drafts: int) -> float:
        """Tokens that a step yields with so many drafts, no more than there are shares."""
        return 1 + sum(self.shares[:drafts])


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
