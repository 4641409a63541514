"""Outlook: the whole plan of one model on one memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.plan import (
    cache,
    decode_speed,
    draft_choices,
    dtypes,
    gb10,
    overheads,
    prefill_speed,
    weights,
)
from dgx_vllm.plan import drafter as drafters
from dgx_vllm.plan.acceptance import Acceptance
from dgx_vllm.plan.architecture import Unknown
from dgx_vllm.plan.budget import Budget, Row, fit, lengths
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.plan.decode_speed import Step
from dgx_vllm.plan.draft_choices import Choices
from dgx_vllm.plan.drafter import Drafter
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.overheads import Overhead
from dgx_vllm.plan.prefill_speed import Prefill
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
        draft_model: a checkpoint that drafts, None for the profile's, or the model's MTP layers.
        draft_method: how it drafts, by vLLM's name; None for what its config says.
        environ: the process's environment, which says where checkpoints are.
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
    draft_model: str | None = None
    draft_method: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drafting:
    """Decoding with a number of drafts, 0 among them.

    Args:
        steps: one step for each of `DRAFT_BATCHES`.
        accepted: tokens that it yields for each sequence.
        origin: where that figure is from.
        drafter: what drafts, None without drafts.
        content: what is written, None where that is not said.
        derived: whether the figure is derived from published ones of other numbers of drafts.
    """

    steps: tuple[Step, ...]
    accepted: float
    origin: str
    drafter: Drafter | None = None
    content: str | None = None
    derived: bool = False

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
        drafting: decode with no drafts, and with each way to draft whose acceptance is known, by what is
            written and by the number of drafts; empty where there is no such way.
        launches: see `PlanRequest`.
        choices: all ways to draft.
        prefill: how fast prompts are read, by the tokens of a chunk; empty where that is unknown.
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
    choices: Choices = draft_choices.NONE
    prefill: tuple[Prefill, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """Of one sequence with the drafts that the plan is for; None where that is not known.

        Where nobody published what so many drafts yield, it is with as many as are published, or with none.
        Of several contents it is prose, which is the harder to draft.
        """
        if not self.steps:
            return None
        used, most = self.choices.used, self.options.drafts
        rows = [row for row in self.drafting if used and row.drafter == used and row.drafts <= most]
        if not rows:
            return self.steps[0].expected()
        return max(rows, key=lambda row: (row.drafts, row.content in (None, "prose"))).speeds[0]

    @property
    def contents(self) -> tuple[str | None, ...]:
        """What is written, where figures of drafts say it; None among them for those that do not."""
        return tuple(dict.fromkeys(row.content for row in self.drafting if row.drafter))

    def best(self, content: str | None) -> tuple[Drafting, ...]:
        """The drafts with the most tokens per second for one content, for each of `DRAFT_BATCHES`."""
        rows = [row for row in self.drafting if row.drafter is None or row.content == content]
        return tuple(
            max(rows, key=lambda row: row.speeds[place]) for place in range(len(DRAFT_BATCHES)) if rows
        )

    @property
    def best_drafts(self) -> tuple[int, ...]:
        """The numbers of drafts of `best`, for the first content."""
        return tuple(row.drafts for row in self.best(self.contents[0])) if self.contents else ()


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
    named = _named(request, loading)
    choices = draft_choices.of(
        architecture, model.weights, profile, loading, request.environ, named, request.acceptance
    )
    if request.drafts and choices.used is None and not choices.used_is_missing:
        raise UserError(
            f"{model.name} has no MTP layers to draft with; leave out --drafts {request.drafts}, or name "
            "what drafts with --spec-model"
        )
    drafts = _drafts(settings, request, choices, named)
    dtype, origin = _cache_dtype(model, profile, settings, request)
    batched = _number(settings, "max-num-batched-tokens", overheads.BATCHED_TOKENS["cuda"])
    sequences = _number(settings, "max-num-seqs", overheads.SEQUENCES["cuda"])

    def options(count: int, by: Drafter | None) -> Options:
        block = cache.window_block(dtype, _draft_backend(settings, by))
        return Options(dtype, request.state_dtype, count, True, batched, "cuda", block)

    def kept_by(count: int, by: Drafter | None) -> Cache:
        return cache.of(architecture, options(count, by), by.attention if by else ())

    used = choices.used
    kept = None if Unknown.CACHE in architecture.unknown else kept_by(drafts, used)
    budget = Budget(
        request.available,
        request.origin,
        request.reserve,
        _loaded_bytes(model, used if drafts else None),
        overheads.of("cuda", architecture, batched, sequences) + _offloaded(settings),
    )
    overhead = gb10.OVERHEAD_PER_LAYER
    needed = {Unknown.LAYERS, Unknown.EXPERTS, Unknown.VOCABULARY}
    readable = kept is not None and not architecture.unknown & needed
    if request.launches is not None and readable:
        overhead = gb10.OVERHEAD_PER_LAUNCH * request.launches / architecture.layers
    contexts = lengths(architecture.max_tokens)
    plain = kept_by(0, None) if readable else None
    return Outlook(
        model=model,
        cache=kept,
        options=options(drafts, used),
        cache_origin=origin,
        budget=budget,
        rows=tuple(fit(kept, budget.cache, contexts)) if kept else (),
        steps=tuple(
            decode_speed.step(architecture, model.weights, plain, batch, request.context, overhead=overhead)
            for batch in BATCHES
            if plain
        ),
        drafting=_drafting(model, request, overhead, choices, kept_by) if plain else (),
        launches=request.launches,
        choices=choices,
        prefill=tuple(
            prefill_speed.chunk(architecture, model.weights, tokens, overhead)
            for tokens in sorted({*prefill_speed.CHUNKS, batched})
            if plain
        ),
    )


def _named(request: PlanRequest, loading: Loading) -> Drafter | None:
    """What the user asks to draft with."""
    if request.draft_model is None:
        return None
    return drafters.find(request.draft_model, request.environ, loading, request.draft_method)


def _loaded_bytes(model: Model, by: Drafter | None) -> int:
    """Weights of the model, and of what drafts for it."""
    own = by is not None and by.model is None
    return model.bytes(drafting=own) + (by.bytes if by and not own else 0)


def _draft_backend(settings: Mapping[str, Any], by: Drafter | None) -> str | None:
    """The attention backend of what drafts, by a profile's settings."""
    speculation, target = settings.get("speculative-config"), settings.get("attention-backend")
    own = speculation.get("attention_backend") if isinstance(speculation, dict) else None
    return drafters.backend(by.method if by else None, own, target if isinstance(target, str) else None)


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


def _drafts(
    settings: Mapping[str, Any], request: PlanRequest, choices: Choices, named: Drafter | None
) -> int:
    """As the user says, else as the profile has them for what drafts, else as it was made for.

    Raises:
        UserError: nobody says how many.
    """
    if request.drafts is not None:
        return request.drafts
    speculation = settings.get("speculative-config")
    fields = speculation if isinstance(speculation, dict) else {}
    number = fields.get("num_speculative_tokens")
    in_profile = number if isinstance(number, int) else 0
    if named is None:
        return in_profile if choices.used or choices.used_is_missing else 0
    if in_profile and fields.get("model") == named.model:
        return in_profile
    if named.most is None:
        raise UserError(
            f"{named.model} does not say how many tokens it drafts for a step; give --drafts, such as "
            "--drafts 3"
        )
    return named.most


def _drafting(
    model: Model,
    request: PlanRequest,
    overhead: float,
    choices: Choices,
    kept: Callable[[int, Drafter | None], Cache],
) -> tuple[Drafting, ...]:
    def steps(drafts: int, by: Drafter | None) -> tuple[Step, ...]:
        held = kept(drafts, by)
        return tuple(
            decode_speed.step(
                model.architecture, model.weights, held, batch, request.context, drafts, overhead, by
            )
            for batch in DRAFT_BATCHES
        )

    rows = [
        Drafting(
            steps(drafts, way.drafter),
            accepted.tokens(drafts),
            accepted.origin,
            way.drafter,
            accepted.content,
            accepted.derived(drafts),
        )
        for way in choices.ways
        for accepted in way.accepted
        for drafts in way.counts(accepted)
    ]
    return (Drafting(steps(0, None), 1.0, rows[0].origin), *rows) if rows else ()
