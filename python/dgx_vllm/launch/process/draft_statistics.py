"""Drafted: how many drafted tokens held, by the server's own counters in /metrics."""

from collections import Counter
from dataclasses import dataclass

from dgx_vllm.launch.endpoint import Endpoint

# It is asked while somebody waits for the server to end.
_SECONDS = 1.0
_PREFIX = "vllm:spec_decode_num_"


@dataclass(frozen=True)
class Drafted:
    """Since the server's start, over all requests.

    Args:
        rounds: how often tokens were drafted for a sequence.
        proposed: drafted tokens.
        accepted: those that held.
        by_position: how many held at each place of a draft.
    """

    rounds: int
    proposed: int
    accepted: int
    by_position: tuple[int, ...]

    @property
    def length(self) -> float:
        """Tokens that a step yields for a sequence, the one that needs no draft among them."""
        return 1 + self.accepted / self.rounds

    @property
    def shares(self) -> tuple[float, ...]:
        """Of all rounds, those that kept the draft at each position."""
        return tuple(count / self.rounds for count in self.by_position)

    def __str__(self) -> str:
        shares = ",".join(f"{share:.3f}" for share in self.shares)
        return (
            f"{self.proposed:,} tokens drafted, {self.accepted:,} accepted, {self.length:.2f} tokens a step; "
            f"by position {shares}"
        )


def ask(endpoint: Endpoint) -> Drafted | None:
    """What a server says; None where it does not, or has drafted nothing."""
    import httpx  # a dry run has no use for it

    try:
        with endpoint.client(timeout=_SECONDS) as client:
            return read(client.get("/metrics").raise_for_status().text)
    except (httpx.HTTPError, ValueError):
        return None


def read(metrics: str) -> Drafted | None:
    """From the text of /metrics, engines summed; None where nothing was drafted.

    Raises:
        ValueError: the text has another form.
    """
    from prometheus_client.parser import text_string_to_metric_families

    totals: Counter[str] = Counter()
    positions: Counter[int] = Counter()
    for family in text_string_to_metric_families(metrics):
        if family.name.startswith(_PREFIX):
            for sample in family.samples:
                if sample.name == f"{_PREFIX}accepted_tokens_per_pos_total":
                    positions[int(sample.labels["position"])] += int(sample.value)
                elif sample.name.endswith("_total"):
                    totals[sample.name.removeprefix(_PREFIX)] += int(sample.value)
    rounds, proposed = totals["drafts_total"], totals["draft_tokens_total"]
    if not rounds or not proposed:
        return None
    by_position = tuple(positions[place] for place in sorted(positions))
    return Drafted(rounds, proposed, totals["accepted_tokens_total"], by_position)
