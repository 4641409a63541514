"""Decode: bytes that one step reads and writes, and the tokens per second that memory and GEMMs allow.

The method is a roofline: at small batches every step waits for memory, so its time is at least its bytes over
the bandwidth. Where a part's matrix products take longer than its bytes, as those of many tokens do, their
time counts. Attention's own products are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import drafter as drafters
from dgx_vllm.plan import gb10
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.cache import Cache
from dgx_vllm.plan.drafter import Drafter
from dgx_vllm.plan.weights import Weight


@dataclass(frozen=True)
class Traffic:
    """What one step moves for one part.

    Args:
        part: the part's name, or a cache's.
        precision: how it is stored, empty for caches.
        bytes: per step.
        operations: of its matrix products per step, a product and a sum counted as two.
    """

    part: str
    precision: str
    bytes: float
    operations: float = 0.0

    @property
    def seconds(self) -> float:
        """The longer of moving the bytes and multiplying."""
        return max(self.bytes / gb10.READ_PEAK, self.operations / gb10.GEMM_RATE)


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
        """Reading, or multiplying where that takes longer, and an overhead in addition, scaled by layers."""
        return sum(part.seconds for part in self.traffic) + self.layers * self.overhead

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
    drafter: Drafter | None = None,
) -> Step:
    """What one step moves.

    Args:
        architecture: the model.
        weights: as planned or stored.
        cache: with the same number of drafts, of the same drafter.
        batch: sequences decoded together.
        context: tokens in each.
        drafts: tokens that are proposed for each; the model verifies them in one pass.
        overhead: see `Step`.
        drafter: what proposes them, None for the model's MTP layers.
    """
    if drafts and drafter is None:
        drafter = drafters.own(architecture, tuple(weights))
    tokens = batch * (drafts + 1)
    experts = distinct_experts(architecture.experts, architecture.experts_per_token, tokens)
    share = experts / architecture.experts if architecture.experts else 1.0
    active = architecture.experts_per_token / architecture.experts if architecture.experts else 1.0
    head = _head(weights)
    moved = [
        Traffic(
            weight.part,
            weight.precision,
            _read(weight, share, tokens, architecture.vocabulary, head),
            _operations(weight, active, head) * tokens,
        )
        for weight in weights
        if not weight.draft and weight.part is not Part.VISION
    ]
    layers = architecture.layers
    if drafts and drafter:
        moved.append(_drafting(drafter, weights, batch, drafts))
        layers += drafter.layers * drafter.passes(drafts)
    moved += _caches(cache, batch, context, drafts, drafter.passes(drafts) if drafter else 0)
    return Step(
        batch, context, drafts, tuple(part for part in moved if part.bytes), experts, layers, overhead
    )


def _head(weights: Sequence[Weight]) -> Part:
    """What makes logits: the embedding where there is no lm_head, which is then read whole."""
    own = [weight.part for weight in weights if not weight.draft]
    return Part.LM_HEAD if Part.LM_HEAD in own else Part.EMBEDDING


def _read(weight: Weight, share: float, tokens: int, vocabulary: int, head: Part) -> float:
    if weight.part is Part.EXPERTS:
        return weight.bytes * share
    if weight.part is Part.EMBEDDING and head is not Part.EMBEDDING:
        return weight.bytes * tokens / vocabulary
    return float(weight.bytes)


def _operations(weight: Weight, active: float, head: Part) -> float:
    """Of one token, by the share of experts that it uses."""
    if weight.part is Part.EMBEDDING and head is not Part.EMBEDDING:
        return 0.0
    return 2 * weight.parameters * (active if weight.part is Part.EXPERTS else 1.0)


def _drafting(drafter: Drafter, weights: Sequence[Weight], batch: int, drafts: int) -> Traffic:
    """What the drafter reads: its layers in each pass, and an lm_head, its own or the model's."""
    passes, tokens = drafter.passes(drafts), batch * drafter.queries(drafts)
    experts = distinct_experts(drafter.experts, drafter.experts_per_token, tokens)
    share = experts / drafter.experts if drafter.experts else 1.0
    active = drafter.experts_per_token / drafter.experts if drafter.experts else 1.0
    # A model that drafts alone shares nothing; others use the model's head unless they have one.
    alone = drafter.method == "draft_model"
    head = _head([replace(weight, draft=False) for weight in drafter.weights]) if alone else Part.LM_HEAD
    size = operations = 0.0
    for weight in drafter.weights:
        if weight.part is Part.DRAFT_TABLES or (weight.part is Part.EMBEDDING and head is not Part.EMBEDDING):
            continue  # a few rows
        times = passes
        if weight.part is Part.DRAFT_HEAD:
            times = drafts  # applied from token to token
        elif weight.part is Part.DRAFT_FC and not drafter.method.endswith("mtp"):
            times = 1  # reads what the model left, before the first pass
        size += times * weight.bytes * (share if weight.part is Part.EXPERTS else 1.0)
        operations += times * tokens * _operations(weight, active, head)
    names = sorted({weight.precision for weight in drafter.weights if weight.part is not Part.NORMS})
    own_head = alone or drafter.own_head
    if not own_head:
        shared = [weight for weight in weights if not weight.draft and weight.part is _head(weights)]
        size += passes * sum(weight.bytes for weight in shared)
        operations += drafts * batch * 2 * sum(weight.parameters for weight in shared)
    what = "MTP layer" if drafter.model is None else drafter.method
    return Traffic(f"drafts: {what} and lm_head", ", ".join(names), size, operations)


def _caches(cache: Cache, batch: int, context: int, drafts: int, passes: int) -> list[Traffic]:
    recurrent = cache.state_bytes - cache.conv_bytes
    kept = cache.read(context) + max(passes - 1, 0) * cache.read_to_draft(context)
    return [
        Traffic("KV cache", "", float(batch * kept)),
        # Read once, and written for every token, since a rejected draft's state is taken back.
        Traffic("recurrent state", "", float(batch * recurrent * (2 + drafts))),
        Traffic("convolution state", "", float(batch * cache.conv_bytes * 2)),
    ]
