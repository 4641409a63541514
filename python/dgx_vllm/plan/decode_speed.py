"""Decode: bytes that one step reads and writes, and the tokens per second that the memory's speed allows.

The method is a roofline: at small batches every step waits for memory, so its time is at least its bytes over
the bandwidth. Computing, which limits large batches, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import gb10
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.cache import Cache
from dgx_vllm.plan.weights import Weight


@dataclass(frozen=True)
class Traffic:
    """What one step moves for one part.

    Args:
        part: the part's name, or a cache's.
        precision: how it is stored, empty for caches.
        bytes: per step.
    """

    part: str
    precision: str
    bytes: float


@dataclass(frozen=True)
class Step:
    """One decode step.

    Args:
        batch: sequences.
        context: tokens in each.
        drafts: proposed per sequence before the step verifies them.
        traffic: what moves, by part.
        experts: distinct routed experts expected per layer, 0 without experts.
        layers: decoder layers run, those of drafts included.
        overhead: seconds per layer in addition to reading its bytes.
    """

    batch: int
    context: int
    drafts: int
    traffic: tuple[Traffic, ...]
    experts: float
    layers: int
    overhead: float = gb10.OVERHEAD_PER_LAYER

    @property
    def bytes(self) -> float:
        return sum(part.bytes for part in self.traffic)

    @property
    def least_seconds(self) -> float:
        """Reading at the peak that others measured, and nothing else."""
        return self.bytes / gb10.READ_PEAK

    @property
    def seconds(self) -> float:
        """The same with the time in addition to reading bytes, scaled by layers."""
        return self.least_seconds + self.layers * self.overhead

    def ceiling(self, accepted: float = 1.0) -> float:
        """Tokens per second of all sequences if nothing but bytes took time.

        Args:
            accepted: tokens that a step yields for each sequence, 1 without drafts.
        """
        return self.batch * accepted / self.least_seconds

    def expected(self, accepted: float = 1.0) -> float:
        """Tokens per second of all sequences with today's overhead."""
        return self.batch * accepted / self.seconds


def distinct_experts(experts: int, per_token: int, tokens: int, shared: float = gb10.SHARED_ROUTING) -> float:
    """Experts of a layer that at least one of `tokens` tokens is expected to use.

    Args:
        experts: routed experts of the layer.
        per_token: of which a token picks so many.
        tokens: tokens of a step.
        shared: 0 for tokens that pick on their own, 1 for tokens that all pick the same.
    """
    if not experts:
        return 0.0
    alone = experts * (1 - (1 - per_token / experts) ** tokens)
    return per_token + (alone - per_token) * (1 - shared)


def step(
    architecture: Architecture,
    weights: Sequence[Weight],
    cache: Cache,
    batch: int = 1,
    context: int = 1024,
    drafts: int = 0,
    overhead: float = gb10.OVERHEAD_PER_LAYER,
) -> Step:
    """What one step moves.

    Args:
        architecture: the model.
        weights: as planned or stored.
        cache: with the same number of drafts.
        batch: sequences decoded together.
        context: tokens in each.
        drafts: tokens that the MTP layer proposes for each, one pass each; the model verifies them in one.
        overhead: see `Step`.
    """
    tokens = batch * (drafts + 1)
    experts = distinct_experts(architecture.experts, architecture.experts_per_token, tokens)
    share = experts / architecture.experts if architecture.experts else 1.0
    moved = [
        Traffic(
            weight.part,
            weight.precision,
            _read(weight, share, tokens, architecture.vocabulary, _tied(weights)),
        )
        for weight in weights
        if not weight.draft and weight.part is not Part.VISION
    ]
    if drafts:
        moved.append(_drafting(architecture, weights, batch, drafts))
    moved += _caches(cache, batch, context, drafts)
    layers = architecture.layers + drafts
    return Step(
        batch, context, drafts, tuple(part for part in moved if part.bytes), experts, layers, overhead
    )


def _tied(weights: Sequence[Weight]) -> bool:
    """Whether the embedding is the lm_head as well, and so read whole."""
    return not any(weight.part is Part.LM_HEAD for weight in weights)


def _read(weight: Weight, share: float, tokens: int, vocabulary: int, tied: bool) -> float:
    if weight.part is Part.EXPERTS:
        return weight.bytes * share
    if weight.part is Part.EMBEDDING and not tied:
        return weight.bytes * tokens / vocabulary
    return float(weight.bytes)


def _drafting(architecture: Architecture, weights: Sequence[Weight], batch: int, drafts: int) -> Traffic:
    """The MTP layer and the lm_head, once for each draft."""
    experts = distinct_experts(architecture.experts, architecture.experts_per_token, batch)
    share = experts / architecture.experts if architecture.experts else 1.0
    head = Part.EMBEDDING if _tied(weights) else Part.LM_HEAD
    once = sum(
        weight.bytes * share if weight.part is Part.EXPERTS else weight.bytes
        for weight in weights
        if weight.draft or weight.part is head
    )
    names = sorted({weight.precision for weight in weights if weight.draft and weight.part is not Part.NORMS})
    return Traffic("drafts: MTP layer and lm_head", ", ".join(names), drafts * once)


def _caches(cache: Cache, batch: int, context: int, drafts: int) -> list[Traffic]:
    recurrent = cache.state_bytes - cache.conv_bytes
    kept = cache.token_bytes * context + cache.window_bytes * min(context, cache.window)
    return [
        Traffic("KV cache", "", float(batch * kept)),
        # Read once, and written for every token, since a rejected draft's state is taken back.
        Traffic("recurrent state", "", float(batch * recurrent * (2 + drafts))),
        Traffic("convolution state", "", float(batch * cache.conv_bytes * 2)),
    ]
