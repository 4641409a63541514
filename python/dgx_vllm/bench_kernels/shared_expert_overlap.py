"""Fork: the routed experts, and the shared one after or next to them."""

from collections.abc import Callable

import torch
from torch import Tensor


class Fork:
    """A layer of two parts, as vLLM runs it (fused_moe/runner/shared_experts.py).

    Args:
        routed: gives [tokens, hidden], which is added to in place.
        shared: gives [tokens, hidden], None for no shared expert.
        gate: the shared expert's logits, [tokens].
        stream: where the shared expert runs meanwhile; None for behind, on the same stream.
    """

    def __init__(
        self,
        routed: Callable[[], Tensor],
        shared: Callable[[], Tensor] | None,
        gate: Tensor,
        stream: torch.cuda.Stream | None,
    ) -> None:
        self.routed, self.shared, self.stream = routed, shared, stream
        self.factor = torch.sigmoid(gate)[:, None].bfloat16()

    def __call__(self) -> Tensor:
        if self.shared is None:
            return self.routed()
        if self.stream is None:
            out, other = self.routed(), self.shared()
        else:
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                other = self.shared()
            out = self.routed()
            current.wait_stream(self.stream)
        return out.addcmul_(other, self.factor)


def ways(
    routed: Callable[[], Callable[[], Tensor]],
    shared: Callable[[], Callable[[], Tensor]] | None,
    gate: Tensor,
) -> list[Fork]:
    """The layer in both ways, after and next to; without a shared expert there is one way.

    Args:
        routed, shared: make the parts; each way has its own, since they hold buffers.
        gate: as for `Fork`.
    """
    if shared is None:
        return [Fork(routed(), None, gate, None)]
    return [Fork(routed(), shared(), gate, stream) for stream in (None, _beside())]


_streams: list[torch.cuda.Stream] = []


def _beside() -> torch.cuda.Stream:
    """One stream for all layers, as in vLLM: a graph with one for each would run them all at once."""
    if not _streams:
        _streams.append(torch.cuda.Stream())
    return _streams[0]
