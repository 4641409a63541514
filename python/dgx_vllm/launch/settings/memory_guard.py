"""Memory: what the guard makes of the settings, on machines whose models lie in the host's memory."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings import limits
from dgx_vllm.launch.settings.ranking import Layer, Overruled, Setting, Source
from dgx_vllm.plan import cache, drafter, dtypes, guard, overheads
from dgx_vllm.plan.budget import Budget
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.plan.guard import Drafting, Subject, Terms, Verdict
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.overheads import Overhead
from dgx_vllm.plan.weights import Loading
from dgx_vllm.util.amounts import gb
from dgx_vllm.vllm_flags.flags import size

_SHARE, _BYTES, _LENGTH = "gpu-memory-utilization", "kv-cache-memory-bytes", "max-model-len"
# Flags that put parts of the model elsewhere: what one machine must hold is then not known here.
_SPREAD = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "nnodes")
# Flags that change what a sequence keeps in ways that are not counted here.
_UNCOUNTED = (
    *("block-size", "kv-cache-dtype-skip-layers", "mamba-block-size", "mamba-cache-dtype"),
    *("disable-hybrid-kv-cache-manager", "hf-overrides", "kv-transfer-config"),
)
# What our entry points are called in VLLM_PLUGINS.
_PLUGIN = "dgx_vllm"
# Fields of a model's config that say where tokens are, and not what is kept of them.
_POSITIONS = {"rope_parameters", "rope_scaling", "rope_theta", "max_position_embeddings"}
# Methods that draft from the text so far, which takes neither weights nor a KV cache.
_FROM_TEXT = ("ngram", "[ngram]", "ngram_gpu", "suffix")


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
        compile_jobs: MAX_JOBS for compiling next to the model, and why; None where nothing is compiled so.
        refusal: why the server must not start, None if it may.
    """

    settings: Layer
    overruled: tuple[Overruled, ...] = ()
    notes: tuple[str, ...] = ()
    compile_jobs: tuple[int, str] | None = None
    refusal: str | None = None


def apply_memory_guard(
    settings: Layer,
    machine: Machine,
    memory: Memory | None,
    environ: Mapping[str, str],
    dense_dtype: Dtype,
) -> Guarded:
    """Gives the KV cache what the machine's memory leaves for it, or refuses the start.

    Args:
        settings: every setting that counts, by name.
        machine: what it runs on.
        memory: what was found out of model and memory, None where there is nothing to guard.
        environ: the process's environment.
        dense_dtype: what layers that the checkpoint left in BF16 become.

    Raises:
        UserError: the size of what is offloaded is not a number.
    """
    if memory is None or not guard.guards(machine) or _is_spread(settings):
        return Guarded(settings)
    drafts = limits.draft_count(settings)
    loading = _loading(settings, machine, memory.subject.model, environ, dense_dtype)
    drafting = _drafting(settings, loading, environ)
    weights = memory.subject.weights(drafts > 0 and drafting is None, loading)
    if weights is None:
        note = "memory: the model's size is unknown until it is downloaded; this start is not guarded"
        return Guarded(
            settings,
            notes=(note,),
            compile_jobs=_compile_jobs(machine, memory, _requested_bytes(settings, machine)),
        )
    beside = drafting.bytes or 0 if drafting else 0
    verdict = _judge(settings, machine, memory, drafts, weights[0] + beside, loading.dtype, drafting)
    notes = (
        verdict.arithmetic,
        *_unknown_cache_notes(settings, memory.subject.model, drafting),
        *_unknown_draft_notes(drafting),
    )
    shorter = _shorter_context(settings, verdict)
    if shorter is not None:
        guarded = apply_memory_guard(
            {**settings, _LENGTH: shorter.winner}, machine, memory, environ, dense_dtype
        )
        if guarded.refusal is None:
            note = f"memory: {_LENGTH} is {shorter.winner.text}, not {shorter.loser.text}: {shorter.why}"
            return replace(guarded, overruled=(shorter, *guarded.overruled), notes=(note, *guarded.notes))
    if verdict.refusal:
        return Guarded(
            settings,
            notes=notes,
            compile_jobs=_compile_jobs(machine, memory, verdict.taken),
            refusal=verdict.refusal,
        )
    changed, overruled = _set_cache_and_share(settings, machine, verdict)
    taken = (
        verdict.taken if _BYTES in changed else _requested_bytes(changed, machine) + verdict.budget.offloaded
    )
    return Guarded(
        changed,
        overruled,
        notes,
        _compile_jobs(machine, memory, taken),
        _refusal(changed, machine, verdict.budget),
    )


def _shorter_context(settings: Layer, verdict: Verdict) -> Overruled | None:
    """A context that the memory holds, in place of a profile's; None where none is needed.

    A user's --max-model-len is not shortened: the refusal says what it may be.
    """
    asked = settings.get(_LENGTH)
    if asked is None or asked.source is not Source.PROFILE:
        return None
    if verdict.longest is None or verdict.longest < guard.LEAST_CONTEXT:
        return None
    length = str(verdict.longest // guard.LEAST_CONTEXT * guard.LEAST_CONTEXT)
    winner = Setting(_LENGTH, length, Source.DEFAULT, "memory guard")
    return Overruled(asked, winner, "the memory holds one sequence of that length")


def _judge(
    settings: Layer,
    machine: Machine,
    memory: Memory,
    drafts: int,
    weights: int,
    dtype: str,
    drafting: Drafting | None,
) -> Verdict:
    platform, model = machine.platform, memory.subject.model
    if model:
        model = replace(model, architecture=replace(model.architecture, dtype=dtype))
    batched = _count(settings, "max-num-batched-tokens", overheads.BATCHED_TOKENS[platform])
    sequences = _count(settings, "max-num-seqs", overheads.SEQUENCES[platform])
    reserve = overheads.reserve(platform) if memory.reserve is None else memory.reserve
    within = memory.budget is not None and memory.budget + reserve < memory.available
    budget = Budget(
        memory.budget + reserve if within and memory.budget is not None else memory.available,
        "--memory-budget and the reserve" if within else "MemAvailable",
        reserve,
        weights,
        overheads.of(platform, model.architecture if model else None, batched, sequences)
        + _offloaded(settings),
    )
    kept: Cache | None = None
    context = None
    if model and model.known:
        context = _context(settings, model.architecture.max_tokens)
    if model and model.known and _unknown_cache_reason(settings, model, drafting) is None:
        options = _options(settings, machine, drafts, batched, model.cache_dtype)
        kept = cache.of(model.architecture, options, drafting.attention if drafting else None)
    requested, share = settings.get(_BYTES), settings.get(_SHARE)
    is_default = requested is None or requested.source is Source.DEFAULT
    return guard.judge(
        budget,
        kept,
        Terms(
            context=context,
            sequences=sequences,
            given=None if is_default or requested is None else size(requested.text),
            wanted=size(requested.text) if is_default and requested else 0,
            # The default share stands in for the guard; a profile says what its model should be content with.
            ceiling=_requested_bytes(settings, machine) + budget.offloaded
            if share and platform == "cuda" and share.source > Source.DEFAULT
            else None,
        ),
    )


def _loading(
    settings: Layer, machine: Machine, model: Model | None, environ: Mapping[str, str], dense_dtype: Dtype
) -> Loading:
    drafts = _speculation(settings).get("moe_backend")
    experts, dtype = settings.get("moe-backend"), _dtype(settings, model)
    return Loading(
        dense_dtype="bf16" if dtype != "bfloat16" or _dense_disabled(environ) else dense_dtype,
        moe_backend=str(drafts) if drafts else experts.text if experts else None,
        platform=machine.platform,
        dtype=dtype,
        hidden=model.architecture.hidden if model else 0,
    )


def _dense_disabled(environ: Mapping[str, str]) -> bool:
    """Whether nothing is quantized as it is loaded: the plugin refuses to, or vLLM loads others alone."""
    plugins = environ.get("VLLM_PLUGINS")
    invariant = environ.get("VLLM_BATCH_INVARIANT", "").strip() not in ("", "0")
    return invariant or (plugins is not None and _PLUGIN not in plugins.split(","))


def _dtype(settings: Layer, model: Model | None) -> str:
    """What vLLM computes in."""
    requested = settings["dtype"].text if "dtype" in settings else "auto"
    if model is None:
        return dtypes.served(requested, "bfloat16", "")
    return dtypes.served(requested, model.architecture.dtype, model.architecture.family)


def _speculation(settings: Layer) -> dict[str, Any]:
    """The fields of --speculative-config, and what the flags that stand for some of them say."""
    setting = settings.get("speculative-config")
    fields = json.loads(setting.text) if setting else None
    by_field = {name.replace("-", "_"): value for name, value in (fields or {}).items()}
    return by_field | {
        name: settings[f"spec-{name}"].text for name in ("method", "model") if f"spec-{name}" in settings
    }


def _drafting(settings: Layer, loading: Loading, environ: Mapping[str, str]) -> Drafting | None:
    """What drafts with weights and a KV cache of its own: a model, or else a method; None if nothing does."""
    fields = _speculation(settings)
    method, named = str(fields.get("method") or ""), str(fields.get("model") or "")
    if (method or named) in _FROM_TEXT:
        return None
    if (method.endswith("mtp") or not method) and _is_model(named, settings["model"].text):
        return None
    if not named:
        return Drafting(method, None, None) if method else None
    revision = fields.get("revision")
    draft = DraftModel(named, str(revision) if revision else None, method or None)
    return guard.drafting(draft, loading, environ)


def _is_model(named: str, model: str) -> bool:
    """Whether a draft model is the model itself, whose MTP layers draft then."""
    return named in ("", model) or Path(named).expanduser().resolve() == Path(model).expanduser().resolve()


def _unknown_draft_notes(drafting: Drafting | None) -> tuple[str, ...]:
    if drafting is None or drafting.bytes is not None:
        return ()
    return (f"memory: what drafts by {drafting.name} load is unknown and not counted",)


def _unknown_cache_notes(settings: Layer, model: Model | None, drafting: Drafting | None) -> tuple[str, ...]:
    cause = _unknown_cache_reason(settings, model, drafting) if model and model.known else None
    if cause is None:
        return ()
    return (f"memory: the size of a sequence is unknown with {cause}; vLLM finds out whether one fits",)


def _unknown_cache_reason(settings: Layer, model: Model, drafting: Drafting | None) -> str | None:
    """For what reason it is not known here what a sequence keeps, None where it is."""
    dtype = _cache_dtype(settings, model.cache_dtype)
    if dtype not in cache.DTYPES:
        return f"a KV cache of {dtype}"
    if drafting and (drafting.attention is None or _speculation(settings).get("kv_cache_dtype")):
        return f"drafts by {drafting.name}"
    uncounted = (settings[name] for name in _UNCOUNTED if name in settings)
    return next((_describe(setting) for setting in uncounted if not _is_counted(setting, settings)), None)


def _is_counted(setting: Setting, settings: Layer) -> bool:
    """Whether one of those flags changes nothing of what a sequence keeps."""
    if setting.name != "hf-overrides":
        return setting.text in ("auto", "off")
    length = settings.get("max-model-len")
    # Where they decide the length, too, it is not known here.
    if length is None or length.text in ("auto", "-1"):
        return False
    return json.loads(setting.text).keys() <= _POSITIONS


def _describe(setting: Setting) -> str:
    flag = f"--{setting.name}"
    value = "" if isinstance(setting.value, bool) or "{" in setting.text else f" {setting.text}"
    return f"{flag}{value}" + ("" if setting.origin == flag else f" ({setting.origin})")


def _cache_dtype(settings: Layer, stored: str | None) -> str:
    dtype = settings["kv-cache-dtype"].text if "kv-cache-dtype" in settings else "auto"
    return stored or "auto" if dtype == "auto" else dtype


def _options(settings: Layer, machine: Machine, drafts: int, batched: int, stored: str | None) -> Options:
    dtype = _cache_dtype(settings, stored)
    caching = settings.get("enable-prefix-caching")
    state = settings.get("mamba-ssm-cache-dtype")
    return Options(
        cache_dtype=dtype,
        state_dtype=state.text if state else "auto",
        drafts=drafts,
        prefix_caching=caching is None or caching.text == "on",
        batched_tokens=batched,
        platform=machine.platform,
        window_block=cache.window_block(dtype, _draft_backend(settings))
        if machine.platform == "cuda"
        else None,
    )


def _draft_backend(settings: Layer) -> str | None:
    """The attention backend of what drafts: its own, and that of the model where the method takes it over."""
    fields, target = _speculation(settings), settings.get("attention-backend")
    own, method = fields.get("attention_backend"), fields.get("method")
    return drafter.backend(
        str(method) if method else None, str(own) if own else None, target.text if target else None
    )


def _set_cache_and_share(
    settings: Layer, machine: Machine, verdict: Verdict
) -> tuple[Layer, tuple[Overruled, ...]]:
    """The KV cache in bytes, and a share of memory that vLLM will find free."""
    changed, overruled = dict(settings), []
    requested, share = settings.get(_BYTES), settings.get(_SHARE)
    by_user = share is not None and share.source > Source.PROFILE
    if (
        verdict.cache is not None
        and (requested is None or requested.source is Source.DEFAULT)
        and not by_user
    ):
        changed[_BYTES] = Setting(_BYTES, str(verdict.cache), Source.DEFAULT, "memory guard")
        if requested and requested.text != changed[_BYTES].text:
            overruled.append(
                Overruled(requested, changed[_BYTES], "it is what the model and the memory allow")
            )
    if share and machine.platform == "cuda" and not by_user:
        room = _room(verdict.budget)
        if float(share.text) * machine.memory > room:
            # Even with the KV cache in bytes, vLLM wants this share of all memory free at start.
            value = f"{max(math.floor(100 * room / machine.memory), 1) / 100:g}"
            changed[_SHARE] = replace(share, value=value, source=Source.DEFAULT, origin="memory guard")
            overruled.append(Overruled(share, changed[_SHARE], "less than that share of memory is available"))
    return changed, tuple(overruled)


def _refusal(settings: Layer, machine: Machine, budget: Budget) -> str | None:
    """Of a share that vLLM takes in full, beside what it offloads; its own check counts the share alone."""
    share, requested = settings.get(_SHARE), _requested_bytes(settings, machine)
    if share is None or _BYTES in settings or not budget.offloaded or requested <= _room(budget):
        return None
    return (
        f"{share.origin} asks for {gb(requested)}, and --kv-offloading-size, which comes on top, leaves "
        f"{gb(_room(budget))} = available {gb(budget.available)} ({budget.origin}) - reserve "
        f"{gb(budget.reserve)} - offloaded {gb(budget.offloaded)}; lower one of the two"
    )


def _room(budget: Budget) -> int:
    """Bytes that vLLM's share may come to, which does not cover what is offloaded."""
    return budget.available - budget.reserve - budget.offloaded


def _offloaded(settings: Layer) -> tuple[Overhead, ...]:
    size, backend = settings.get("kv-offloading-size"), settings.get("kv-offloading-backend")
    return overheads.offloaded(size.text if size else None, backend.text if backend else None)


def _compile_jobs(machine: Machine, memory: Memory, taken: int) -> tuple[int, str] | None:
    if machine.platform != "cuda":
        return None
    count = guard.compile_jobs(machine.cpus, memory.available, taken)
    return count, "memory guard: compile jobs of 8 GB that fit next to the model"


def _requested_bytes(settings: Layer, machine: Machine) -> int:
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


def _is_spread(settings: Layer) -> bool:
    return any(name in settings and settings[name].text not in ("0", "1") for name in _SPREAD)
