"""Profile fit: whether a profile fits a memory, with what context, and how fast it may decode."""

from collections.abc import Sequence
from dataclasses import dataclass

from dgx_vllm.host.machine import GIB, Platform
from dgx_vllm.plan import model, outlook
from dgx_vllm.plan.guard import LEAST_CONTEXT
from dgx_vllm.plan.outlook import Outlook, PlanRequest
from dgx_vllm.plan.overheads import reserve
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.vllm_flags.flags import size


@dataclass(frozen=True)
class ProfileFit:
    """One profile on one memory. None stands for what is not known.

    Args:
        profile: the profile.
        fits: whether one sequence of `context` tokens fits with all else.
        weights: bytes of weights, those of drafts included.
        context: tokens that one sequence may have: the profile's max-model-len, or what memory allows.
        sequences: how many sequences of that length fit at once, at most the profile's max-num-seqs.
        tokens_per_second: of one sequence, predicted for a GB10, with the profile's drafts.
    """

    profile: Profile
    fits: bool | None
    weights: int | None = None
    context: int | None = None
    sequences: int | None = None
    tokens_per_second: float | None = None


def of(profile: Profile, memory: int, platform: Platform) -> ProfileFit:
    """A profile on a memory.

    Args:
        profile: the profile.
        memory: bytes that model and system share.
        platform: what serves. The CPU backend serves profiles that bring their checkpoint.
    """
    if platform == "cpu" and profile.checkpoint is None:
        return ProfileFit(profile, False)
    sizes = model_sizes.by_model(profile.model)
    if sizes is None:
        needed = profile.memory_gib
        return ProfileFit(profile, None if needed is None else needed * GIB <= memory)
    request = PlanRequest(memory, "all of it", reserve(platform))
    planned = outlook.of(model.published(profile.model, sizes), profile, request)
    values = profile.values("cuda")
    length, most = values.get("max-model-len"), values.get("max-num-seqs")
    wanted = size(length) if isinstance(length, str) else sizes.max_tokens
    context = _context(planned, wanted)
    if not context:
        return ProfileFit(profile, False, planned.budget.weights)
    fitting = planned.cache.sequences(planned.budget.cache, context) if planned.cache else None
    sequences = min(fitting, int(most)) if fitting and isinstance(most, str) else fitting
    speed = planned.tokens_per_second
    return ProfileFit(profile, True, planned.budget.weights, context, sequences, speed)


def all_of(profiles: Sequence[Profile], memory: int, platform: Platform) -> list[ProfileFit]:
    """Every profile on a memory."""
    return [of(profile, memory, platform) for profile in profiles]


def _context(planned: Outlook, wanted: int | None) -> int:
    """The longest sequence up to what is wanted, 0 where none fits: what `serve` would take."""
    if planned.cache is None or planned.budget.cache <= 0:
        return 0
    longest = planned.cache.longest(planned.budget.cache)
    if wanted is None or longest >= wanted:
        return wanted or longest
    return longest // LEAST_CONTEXT * LEAST_CONTEXT
