"""Outlook: the whole plan of one model on one memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.plan import cache, decode_speed, dtypes, gb10, overheads, weights
from dgx_vllm.plan.acceptance import Acceptance, published
from dgx_vllm.plan.architecture import Unknown
from dgx_vllm.plan.budget import Budget, Row, fit, lengths
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.plan.decode_speed import Step
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.overheads import Overhead
from dgx_vllm.plan.weights import Loading
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError

BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: Sequences decoded together for which drafts are weighed.
DRAFT_BATCHES = (1, 4, 8)


@dataclass(frozen=True)
class PlanRequest:
    """What the user asks the plan for.

    Args:
        available: bytes of memory, and who says so.
        origin: see `available`.
        reserve: bytes to leave alone.
        context: tokens in each sequence while decoding.
        cache_dtype: --kv-cache-dtype, None for the profile's or the checkpoint's.
        dense_dtype: --dense-dtype, None for the profile's.
        moe_backend: --moe-backend, None for the profile's.
        state_dtype: --mamba-ssm-cache-dtype.
        drafts: speculative tokens, 0 for none, None for the profile's.
        acceptance: of drafts, None for the published one.
        launches: of a step without drafts, which then decide the overhead; None for the published system's.
    """

    available: int
    origin: str
    reserve: int = overheads.RESERVE
    context: int = 1024
    cache_dtype: str | None = None
    dense_dtype: Dtype | None = None
    moe_backend: str | None = None
    state_dtype: str = "auto"
    drafts: int | None = None
    acceptance: Acceptance | None = None
    launches: int | None = None


@dataclass(frozen=True)
class Drafting:
    """Decoding with a number of drafts, 0 among them.

    Args:
        steps: one step for each of `DRAFT_BATCHES`.
        accepted: tokens that it yields for each sequence.
        origin: where that figure is from.
    """

    steps: tuple[Step, ...]
    accepted: float
    origin: str

    @property
    def drafts(self) -> int:
        return self.steps[0].drafts

    @property
    def speeds(self) -> tuple[float, ...]:
        """Tokens per second of all sequences, for each of `DRAFT_BATCHES`."""
        return tuple(step.expected(self.accepted) for step in self.steps)


@dataclass(frozen=True)
class Outlook:
    """What the planner says of a model.

    Args:
        model: the model.
        cache: what its sequences keep, None where that is unknown, and `options` the settings behind that.
        options: see `cache`.
        cache_origin: who chose the KV cache's dtype.
        budget: how the memory is divided.
        rows: what context and concurrency fit; empty where that is unknown.
        steps: decode by batch, without drafts; empty where what a step reads is unknown.
        drafting: decode with no drafts, with one, and so on; empty for models without MTP layers.
        launches: see `PlanRequest`.
    """

    model: Model
    cache: Cache | None
    options: Options
    cache_origin: str
    budget: Budget
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    drafting: tuple[Drafting, ...]
    launches: int | None

    @property
    def tokens_per_second(self) -> float | None:
        """Of one sequence with the drafts that the plan is for; None where that is not known."""
        if not self.options.drafts:
            return self.steps[0].expected() if self.steps else None
        with_drafts = (each for each in self.drafting if each.drafts == self.options.drafts)
        return next((drafting.speeds[0] for drafting in with_drafts), None)

    @property
    def best_drafts(self) -> tuple[int, ...]:
        """The number of drafts with the most tokens per second, for each of `DRAFT_BATCHES`."""
        by_batch = zip(*(each.speeds for each in self.drafting), strict=True)
        return tuple(self.drafting[speeds.index(max(speeds))].drafts for speeds in by_batch)


def of(model: Model, profile: Profile | None, request: PlanRequest) -> Outlook:
    """Plans a model.

    Raises:
        UserError: drafts for a model that has no MTP layers, or a dtype that is unknown.
    """
    architecture = model.architecture
    dense = request.dense_dtype or (profile.dense_dtype if profile else "bf16")
    settings: Mapping[str, Any] = profile.values("cuda") if profile else {}
    dtype_asked = settings.get("dtype")
    if isinstance(dtype_asked, str):
        dtype_served = dtypes.served(dtype_asked, architecture.dtype, architecture.family)
        architecture = replace(architecture, dtype=dtype_served)
    loading = Loading(
        dense if architecture.dtype == "bfloat16" else "bf16",
        request.moe_backend or settings.get("moe-backend"),
        dtype=architecture.dtype,
        hidden=architecture.hidden,
    )
    model = replace(model, architecture=architecture, weights=weights.loaded(model.weights, loading))
    if request.drafts and architecture.draft is None:
        raise UserError(f"{model.name} has no MTP layers to draft with; leave out --drafts {request.drafts}")
    drafts = _drafts(settings) if request.drafts is None and architecture.draft else request.drafts or 0
    dtype, origin = _cache_dtype(model, profile, settings, request)
    batched = _number(settings, "max-num-batched-tokens", overheads.BATCHED_TOKENS["cuda"])
    sequences = _number(settings, "max-num-seqs", overheads.SEQUENCES["cuda"])

    def options(count: int) -> Options:
        return Options(dtype, request.state_dtype, count, True, batched, "cuda")

    kept = None if Unknown.CACHE in architecture.unknown else cache.of(architecture, options(drafts))
    budget = Budget(
        request.available,
        request.origin,
        request.reserve,
        model.bytes(drafting=bool(drafts)),
        overheads.of("cuda", architecture, batched, sequences) + _offloaded(settings),
    )
    overhead = gb10.OVERHEAD_PER_LAYER
    needed = {Unknown.LAYERS, Unknown.EXPERTS, Unknown.VOCABULARY}
    readable = kept is not None and not architecture.unknown & needed
    if request.launches is not None and readable:
        overhead = gb10.OVERHEAD_PER_LAUNCH * request.launches / architecture.layers
    contexts = lengths(architecture.max_tokens)
    plain = cache.of(architecture, options(0)) if readable else None
    return Outlook(
        model=model,
        cache=kept,
        options=options(drafts),
        cache_origin=origin,
        budget=budget,
        rows=tuple(fit(kept, budget.cache, contexts)) if kept else (),
        steps=tuple(
            decode_speed.step(architecture, model.weights, plain, batch, request.context, overhead=overhead)
            for batch in BATCHES
            if plain
        ),
        drafting=_drafting(model, request, overhead, lambda count: cache.of(architecture, options(count)))
        if plain
        else (),
        launches=request.launches,
    )


def _cache_dtype(
    model: Model, profile: Profile | None, settings: Mapping[str, Any], request: PlanRequest
) -> tuple[str, str]:
    if request.cache_dtype:
        return request.cache_dtype, "--kv-cache-dtype"
    profiled = settings.get("kv-cache-dtype")
    if profile and isinstance(profiled, str):
        return profiled, f"profile {profile.name}"
    if model.cache_dtype:
        return model.cache_dtype, "the checkpoint"
    return "auto", "vLLM's default, the model's own"


def _number(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    return int(value) if isinstance(value, str) and value.isdigit() else default


def _offloaded(settings: Mapping[str, Any]) -> tuple[Overhead, ...]:
    return overheads.offloaded(settings.get("kv-offloading-size"), settings.get("kv-offloading-backend"))


def _drafts(settings: Mapping[str, Any]) -> int:
    """As a profile has them."""
    speculation = settings.get("speculative-config")
    number = speculation.get("num_speculative_tokens") if isinstance(speculation, dict) else None
    return number if isinstance(number, int) else 0


def _drafting(
    model: Model, request: PlanRequest, overhead: float, kept: Callable[[int], Cache]
) -> tuple[Drafting, ...]:
    if model.architecture.draft is None:
        return ()
    acceptance = request.acceptance or published()

    def step(batch: int, drafts: int) -> Step:
        return decode_speed.step(
            model.architecture, model.weights, kept(drafts), batch, request.context, drafts, overhead
        )

    return tuple(
        Drafting(
            tuple(step(batch, drafts) for batch in DRAFT_BATCHES),
            acceptance.tokens(drafts),
            acceptance.origin,
        )
        for drafts in range(len(acceptance.shares) + 1)
    )
