"""Guard: the start of a server on memory that it shares with everything else on the machine.

It counts from MemAvailable, which holds what the kernel can give back; "free" leaves out the page cache, and
MemTotal leaves out whatever else runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.host.machine import Machine
from dgx_vllm.plan import drafter, model, overheads, report, source, weights
from dgx_vllm.plan.architecture import Attention
from dgx_vllm.plan.budget import Budget
from dgx_vllm.plan.cache import Cache
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.weights import Loading, Weight
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import UserError

#: The shortest context that is worth a start, in tokens. A profile's is shortened to multiples of it.
LEAST_CONTEXT = 4096


def guards(machine: Machine) -> bool:
    """Whether the model lies in the host's memory: GB10, or the CPU backend."""
    return machine.platform == "cpu" or machine.unified


@dataclass(frozen=True)
class Subject:
    """What is known of a model before it is loaded.

    Args:
        model: its shape and weights, None if they are not here or of no known kind.
        profile: its profile, which may say how large it is.
        files: its weights where they are here although the config says too little.
    """

    model: Model | None
    profile: Profile | None
    files: tuple[Weight, ...] | None = None

    def weights(self, drafting: bool, loading: Loading) -> tuple[int, str] | None:
        """Bytes of weights and who says so, None where nobody does."""
        if self.model:
            loaded = weights.loaded(self.model.weights, loading)
            return weights.total(loaded, drafting), _origin(self.model)
        if self.files:
            return weights.total(weights.loaded(self.files, loading), drafting), "the files"
        if self.profile and self.profile.weight_bytes:
            return self.profile.weight_bytes, f"profile {self.profile.name}"
        return None


def _origin(model: Model) -> str:
    if model.published:
        return "known sizes"
    return "the files" if model.exact else "config.json"


def survey(
    argument: str, environ: Mapping[str, str], profile: Profile | None, reading: Reading = AUTO
) -> Subject:
    """Looks at what is here of a model; what is damaged is for others to report."""
    if "://" in argument:
        return Subject(None, profile)
    try:
        description = source.find(argument, environ, fetch=False, reading=reading)
    except UserError:
        return Subject(None, profile)
    try:
        return Subject(model.understand(description, thorough=False), profile)
    except UserError:
        pass
    try:
        return Subject(None, profile, model.stored(description.directory, description.config, reading))
    except UserError:
        return Subject(None, profile)


@dataclass(frozen=True)
class Drafting:
    """What is known of a draft model before it is loaded.

    Args:
        name: what the user called it.
        bytes: of its weights, None where they are unknown.
        attention: its layers with a KV cache, None where they are unknown.
    """

    name: str
    bytes: int | None
    attention: tuple[Attention, ...] | None


def drafting(draft: DraftModel, loading: Loading, environ: Mapping[str, str]) -> Drafting:
    """Looks at what is here of a draft model, or at its sizes that come with the package; asks no network."""
    try:
        whole = drafter.find(draft.name, environ, loading, draft.method, draft.revision, fetch=False)
    except UserError:
        return Drafting(draft.name, _draft_files(draft, loading, environ), None)
    return Drafting(draft.name, whole.bytes, whole.attention)


def _draft_files(draft: DraftModel, loading: Loading, environ: Mapping[str, str]) -> int | None:
    """Bytes of a draft model's weights, None where they are not here, or damaged."""
    try:
        directory = checkpoint.place(draft.name, environ, draft.revision)
        stored = model.stored(directory) if directory and directory.is_dir() else None
    except UserError:
        return None
    # What --dense-dtype leaves of a draft model is not known: as it is stored, it is no smaller.
    kept = replace(loading, dense_dtype="bf16")
    return None if stored is None else weights.total(weights.loaded(stored, kept), drafting=True)


@dataclass(frozen=True)
class Terms:
    """What the server is asked to hold.

    Args:
        context: --max-model-len, None where vLLM is to choose what fits.
        sequences: --max-num-seqs.
        given: the KV cache's bytes where the user or the profile states them.
        wanted: bytes that the KV cache gets by default, 0 for what the sequences need.
        ceiling: bytes that all of the server may take, None without a limit.
    """

    context: int | None
    sequences: int
    given: int | None = None
    wanted: int = 0
    ceiling: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the guard decides.

    Args:
        budget: how the memory is divided.
        cache: the KV cache's bytes, None where vLLM must size it, because its form is unknown.
        arithmetic: one line that says how that came about.
        refusal: why the server must not start, None if it may.
        longest: tokens that a sequence may have where that alone is what is refused, else None.
    """

    budget: Budget
    cache: int | None
    arithmetic: str
    refusal: str | None
    longest: int | None = None

    @property
    def taken(self) -> int:
        """Bytes that the server will take."""
        return self.budget.weights + self.budget.overhead + (self.cache or 0)


def judge(budget: Budget, cache: Cache | None, terms: Terms) -> Verdict:
    """Sizes the KV cache, or refuses.

    The KV cache gets what the asked-for sequences need at full length, and no more than is left: what it does
    not take stays with the page cache and with whatever else runs.

    Args:
        budget: the memory, divided.
        cache: what a sequence keeps, None where that is unknown.
        terms: what is asked for.
    """
    # Where vLLM chooses the context, a single token is the least.
    least = cache.needed(terms.context or 1, 1) if cache else 0
    if terms.given is not None and terms.given < least:
        return _verdict(budget, terms.given, _too_small(cache, terms, terms.given, least))
    size = terms.given if terms.given is not None else _size(budget, cache, terms, least)
    floor = least if terms.given is None else terms.given
    if budget.cache < max(floor, 1):
        verdict = _verdict(budget, None, _refusal(budget, cache, terms, floor))
        return replace(verdict, longest=_longest(budget, cache, terms))
    return _verdict(budget, size, None)


def _size(budget: Budget, cache: Cache | None, terms: Terms, least: int) -> int | None:
    """The KV cache's bytes where nobody states them, None where vLLM must find out."""
    if terms.wanted:
        return min(max(terms.wanted, least), budget.cache)
    if cache is None:
        return None
    bounds = [budget.cache]
    if terms.context:
        bounds.append(cache.needed(terms.context, terms.sequences))
    if terms.ceiling is not None:
        bounds.append(terms.ceiling - budget.weights - budget.overhead)
    return max(min(bounds), least)


def compile_jobs(cpus: int, available: int, taken: int) -> int:
    """How many of FlashInfer's compile jobs may run at once: as many as fit next to the model, at least one.

    Args:
        cpus: CPUs that may be used.
        available: bytes of memory that can be had.
        taken: bytes that the server will take.
    """
    return max(1, min(cpus, math.floor((available - taken) / overheads.COMPILE_JOB)))


def _arithmetic(budget: Budget, size: int | None) -> str:
    sums = (
        f"available {gb(budget.available)} ({budget.origin}) - reserve {gb(budget.reserve)} "
        f"- weights {gb(budget.weights)} - overhead {gb(budget.overhead)} = {gb(budget.cache)}"
    )
    return f"memory: {sums} for the KV cache" + ("" if size is None else f", of which it gets {gb(size)}")


def _verdict(budget: Budget, size: int | None, refusal: str | None) -> Verdict:
    return Verdict(budget, size, _arithmetic(budget, size), refusal)


def _too_small(cache: Cache | None, terms: Terms, size: int, least: int) -> str:
    longest = cache.longest(size) if cache else 0
    shorter = f"lower --max-model-len, to {longest} at most, or " if longest else ""
    return (
        f"a KV cache of {gb(size)} is too small: one sequence of {terms.context or 1} tokens needs "
        f"{gb(least)}; {shorter}give a larger --kv-cache-memory-bytes"
    )


def _longest(budget: Budget, cache: Cache | None, terms: Terms) -> int | None:
    """Tokens that a sequence may have, where fewer than are asked for would fit."""
    if cache is None or terms.given is not None or budget.cache <= 0 or not terms.context:
        return None
    longest = cache.longest(budget.cache)
    return longest if longest < terms.context else None


def _refusal(budget: Budget, cache: Cache | None, terms: Terms, floor: int) -> str:
    longest = cache.longest(budget.cache) if cache and terms.given is None and budget.cache > 0 else 0
    if terms.given is not None and budget.cache > 0:
        remedy = f"lower --kv-cache-memory-bytes to {budget.cache} or less, or free memory"
    elif longest and terms.context and longest < terms.context:
        remedy = f"give --max-model-len {longest} or less, or free memory"
    elif budget.offloaded and budget.cache + budget.offloaded >= max(floor, 1):
        remedy = "it would with less offloaded: lower --kv-offloading-size, or free memory"
    elif budget.cache + budget.reserve >= floor:
        remedy = "it would without the reserve: lower --memory-reserve, or free memory"
    else:
        remedy = "free memory, or choose a smaller or more tightly quantized model"
    return f"the model does not fit: it {report.refusal(budget, floor)}; {remedy}"
