"""Outlook: the whole plan of one model on one memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dgx_vllm.dense import Dtype
from dgx_vllm.errors import UserError
from dgx_vllm.plan import cache, decode, gb10, memory, overheads, weights
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.plan.decode import Step
from dgx_vllm.plan.memory import Budget, Row
from dgx_vllm.plan.model import Model
from dgx_vllm.profile import Profile

BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Wish:
    """What the user asks the plan for.

    Args:
        available: bytes of memory, and who says so.
        origin: see `available`.
        reserve: bytes to leave alone.
        context: tokens in each sequence while decoding.
        cache_dtype: --kv-cache-dtype, None for the profile's or the checkpoint's.
        dense_dtype: --dense-dtype, None for the profile's.
        state_dtype: --mamba-ssm-cache-dtype.
        drafts: speculative tokens, 0 for none.
        acceptance: tokens that a step with drafts yields, None for the published ones.
    """

    available: int
    origin: str
    reserve: int = overheads.RESERVE
    context: int = 1024
    cache_dtype: str | None = None
    dense_dtype: Dtype | None = None
    state_dtype: str = "auto"
    drafts: int = 0
    acceptance: float | None = None


@dataclass(frozen=True)
class Drafting:
    """Decoding with drafts.

    Args:
        step: one step.
        accepted: tokens that it yields for each sequence.
        origin: where that figure is from.
    """

    step: Step
    accepted: float
    origin: str


@dataclass(frozen=True)
class Outlook:
    """What the planner says of a model.

    Args:
        model: the model.
        cache: what its sequences keep, and `options` the settings behind that.
        options: see `cache`.
        cache_origin: who chose the KV cache's dtype.
        budget: how the memory is divided.
        rows: what context and concurrency fit.
        steps: decode by batch, without drafts.
        drafting: decode at batch 1 with drafts; empty for models without MTP layers.
    """

    model: Model
    cache: Cache
    options: Options
    cache_origin: str
    budget: Budget
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    drafting: tuple[Drafting, ...]


def of(model: Model, profile: Profile | None, wish: Wish) -> Outlook:
    """Plans a model.

    Raises:
        UserError: drafts for a model that has no MTP layers, or a dtype that is unknown.
    """
    architecture = model.architecture
    dense = wish.dense_dtype or (profile.dense_dtype if profile else "bf16")
    model = replace(model, weights=weights.with_dense(model.weights, dense))
    if wish.drafts and architecture.draft is None:
        raise UserError(f"{model.name} has no MTP layers to draft with; leave out --drafts {wish.drafts}")
    settings = profile.values("cuda") if profile else {}
    dtype, origin = _cache_dtype(model, profile, settings, wish)
    batched = _number(settings, "max-num-batched-tokens", overheads.BATCHED_TOKENS["cuda"])
    sequences = _number(settings, "max-num-seqs", overheads.SEQUENCES["cuda"])

    def options(drafts: int) -> Options:
        return Options(dtype, wish.state_dtype, drafts, True, batched, "cuda")

    kept = cache.of(architecture, options(wish.drafts))
    plain = kept if not wish.drafts else cache.of(architecture, options(0))
    budget = Budget(
        wish.available,
        wish.origin,
        wish.reserve,
        model.bytes(drafting=bool(wish.drafts)),
        overheads.of("cuda", architecture, batched, sequences),
    )
    contexts = memory.lengths(architecture.max_tokens)
    return Outlook(
        model=model,
        cache=kept,
        options=options(wish.drafts),
        cache_origin=origin,
        budget=budget,
        rows=tuple(memory.fit(kept, budget.cache, contexts)),
        steps=tuple(
            decode.step(architecture, model.weights, plain, batch, wish.context) for batch in BATCHES
        ),
        drafting=tuple(
            Drafting(
                decode.step(
                    architecture, model.weights, cache.of(architecture, options(n)), 1, wish.context, n
                ),
                accepted,
                why,
            )
            for n, accepted, why in _acceptance(architecture.draft is not None, wish)
        ),
    )


def _cache_dtype(
    model: Model, profile: Profile | None, settings: Mapping[str, Any], wish: Wish
) -> tuple[str, str]:
    if wish.cache_dtype:
        return wish.cache_dtype, "--kv-cache-dtype"
    given = settings.get("kv-cache-dtype")
    if profile and isinstance(given, str):
        return given, f"profile {profile.name}"
    if model.cache_dtype:
        return model.cache_dtype, "the checkpoint"
    return "auto", "vLLM's default, the model's own"


def _number(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    return int(value) if isinstance(value, str) and value.isdigit() else default


def _acceptance(drafts: bool, wish: Wish) -> list[tuple[int, float, str]]:
    if not drafts:
        return []
    if wish.acceptance is not None:
        return [(wish.drafts, wish.acceptance, "--acceptance")]
    wanted = (wish.drafts,) if wish.drafts else tuple(gb10.PUBLISHED_ACCEPTANCE)
    return [
        (count, gb10.PUBLISHED_ACCEPTANCE[count], "published for Qwen3-Next-80B-A3B")
        for count in wanted
        if count in gb10.PUBLISHED_ACCEPTANCE
    ]
