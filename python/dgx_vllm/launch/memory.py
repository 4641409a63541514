"""Memory: what the guard makes of the settings, on machines whose models lie in the host's memory."""

import math
from dataclasses import dataclass, replace

from dgx_vllm.launch import limits
from dgx_vllm.launch.flags import size
from dgx_vllm.launch.settings import Layer, Overruled, Setting, Source
from dgx_vllm.machine import Machine
from dgx_vllm.plan import cache, guard, overheads
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.plan.guard import Subject, Terms, Verdict
from dgx_vllm.plan.memory import Budget

_SHARE, _BYTES = "gpu-memory-utilization", "kv-cache-memory-bytes"
# Flags that put parts of the model elsewhere: what one machine must hold is then not known here.
_SPREAD = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "nnodes")


@dataclass(frozen=True)
class Memory:
    """What was found out before the command is decided.

    Args:
        available: MemAvailable in bytes.
        reserve: bytes to leave alone, None for the platform's default.
        subject: what is known of the model.
        budget: bytes that this server may take, None for all that is available.
    """

    available: int
    reserve: int | None
    subject: Subject
    budget: int | None = None


@dataclass(frozen=True)
class Guarded:
    """The settings as the guard leaves them.

    Args:
        settings: every setting that counts.
        overruled: what gave way.
        notes: the arithmetic.
        jobs: MAX_JOBS for compiling beside the model, and why; None where nothing is compiled so.
        refusal: why the server must not start, None if it may.
    """

    settings: Layer
    overruled: tuple[Overruled, ...] = ()
    notes: tuple[str, ...] = ()
    jobs: tuple[int, str] | None = None
    refusal: str | None = None


def guarded(settings: Layer, machine: Machine, memory: Memory | None) -> Guarded:
    """Applies the guard.

    Raises:
        UserError: a KV cache's dtype that is unknown.
    """
    if memory is None or not guard.guards(machine) or _spread(settings):
        return Guarded(settings)
    drafts = limits.draft_count(settings)
    weights = memory.subject.weights(drafting=drafts > 0)
    if weights is None:
        note = "memory: how large the model is will be known when it is here; nothing guards this start"
        return Guarded(settings, notes=(note,), jobs=_jobs(machine, memory, _asked(settings, machine)))
    verdict = _judge(settings, machine, memory, drafts, weights)
    if verdict.refusal:
        return Guarded(
            settings,
            notes=(verdict.arithmetic,),
            jobs=_jobs(machine, memory, verdict.taken),
            refusal=verdict.refusal,
        )
    changed, overruled = _settings(settings, machine, verdict)
    taken = verdict.taken if _BYTES in changed else _asked(changed, machine)
    return Guarded(changed, overruled, (verdict.arithmetic,), _jobs(machine, memory, taken))


def _judge(
    settings: Layer, machine: Machine, memory: Memory, drafts: int, weights: tuple[int, str]
) -> Verdict:
    platform, model = machine.platform, memory.subject.model
    batched = _count(settings, "max-num-batched-tokens", overheads.BATCHED_TOKENS[platform])
    sequences = _count(settings, "max-num-seqs", overheads.SEQUENCES[platform])
    reserve = overheads.reserve(platform) if memory.reserve is None else memory.reserve
    within = memory.budget is not None and memory.budget + reserve < memory.available
    budget = Budget(
        memory.budget + reserve if within and memory.budget is not None else memory.available,
        "--memory-budget and the reserve" if within else "MemAvailable",
        reserve,
        weights[0],
        overheads.of(platform, model.architecture if model else None, batched, sequences),
    )
    kept: Cache | None = None
    context = None
    if model and model.known:
        kept = cache.of(model.architecture, _options(settings, machine, drafts, batched, model.cache_dtype))
        context = _context(settings, model.architecture.max_tokens)
    given, share = settings.get(_BYTES), settings.get(_SHARE)
    own = given is None or given.source is Source.DEFAULT
    return guard.judge(
        budget,
        kept,
        Terms(
            context=context,
            sequences=sequences,
            given=None if own or given is None else size(given.text),
            wanted=size(given.text) if own and given else 0,
            # The default share stands in for the guard; a profile says what its model should be content with.
            ceiling=int(float(share.text) * machine.memory)
            if share and platform == "cuda" and share.source > Source.DEFAULT
            else None,
        ),
    )


def _options(settings: Layer, machine: Machine, drafts: int, batched: int, stored: str | None) -> Options:
    dtype = settings["kv-cache-dtype"].text if "kv-cache-dtype" in settings else "auto"
    caching = settings.get("enable-prefix-caching")
    state = settings.get("mamba-ssm-cache-dtype")
    return Options(
        cache_dtype=stored or "auto" if dtype == "auto" else dtype,
        state_dtype=state.text if state else "auto",
        drafts=drafts,
        prefix_caching=caching is None or caching.text == "on",
        batched_tokens=batched,
        platform=machine.platform,
    )


def _settings(settings: Layer, machine: Machine, verdict: Verdict) -> tuple[Layer, tuple[Overruled, ...]]:
    """The KV cache in bytes, and a share of memory that vLLM will find free."""
    changed, overruled = dict(settings), []
    given, share = settings.get(_BYTES), settings.get(_SHARE)
    by_user = share is not None and share.source > Source.PROFILE
    if verdict.cache is not None and (given is None or given.source is Source.DEFAULT) and not by_user:
        changed[_BYTES] = Setting(_BYTES, str(verdict.cache), Source.DEFAULT, "memory guard")
        if given and given.text != changed[_BYTES].text:
            overruled.append(Overruled(given, changed[_BYTES], "it is what the model and the memory allow"))
    if share and machine.platform == "cuda" and not by_user:
        room = verdict.budget.available - verdict.budget.reserve
        if float(share.text) * machine.memory > room:
            # Even with the KV cache in bytes, vLLM wants this share of all memory free at start.
            value = f"{max(math.floor(100 * room / machine.memory), 1) / 100:g}"
            changed[_SHARE] = replace(share, value=value, source=Source.DEFAULT, origin="memory guard")
            overruled.append(Overruled(share, changed[_SHARE], "less than that share of memory is available"))
    return changed, tuple(overruled)


def _jobs(machine: Machine, memory: Memory, taken: int) -> tuple[int, str] | None:
    if machine.platform != "cuda":
        return None
    count = guard.compile_jobs(machine.cpus, memory.available, taken)
    return count, "memory guard: compile jobs of 8 GB that fit beside the model"


def _asked(settings: Layer, machine: Machine) -> int:
    """What vLLM may take by its share of memory."""
    share = settings.get(_SHARE)
    return int(float(share.text) * machine.memory) if share else machine.memory


def _context(settings: Layer, longest: int | None) -> int | None:
    setting = settings.get("max-model-len")
    if setting is None:
        return longest
    length = size(setting.text, auto=True)
    return length if length > 0 else None


def _count(settings: Layer, name: str, default: int) -> int:
    return size(settings[name].text) if name in settings else default


def _spread(settings: Layer) -> bool:
    return any(name in settings and settings[name].text not in ("0", "1") for name in _SPREAD)
