"""Draft choices: what may draft for a model, what is known to hold of it, and which of them is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgx_vllm.checkpoints import draft_model
from dgx_vllm.plan import acceptance, draft_limits, drafter
from dgx_vllm.plan.acceptance import Acceptance
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.drafter import Drafter
from dgx_vllm.plan.weights import Loading, Weight
from dgx_vllm.profiles.profile import Draft, Profile
from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Choice:
    """One way to draft.

    Args:
        drafter: what drafts.
        accepted: what is known to hold, by what is written; empty where nobody published it.
        most: the largest number of drafts that `serve` lets pass, None without limit.
    """

    drafter: Drafter
    accepted: tuple[Acceptance, ...]
    most: int | None = None

    def counts(self, accepted: Acceptance) -> range:
        """The numbers of drafts for which tokens a step are known or derived."""
        longest = len(accepted.shares)
        return range(1, 1 + (longest if self.most is None else min(self.most, longest)))


@dataclass(frozen=True)
class Choices:
    """Every way to draft for a model.

    Args:
        used: what drafts in the plan, None where nothing does or where its sizes are unknown.
        ways: all that may draft.
        missing: the names of those of which nothing is known here.
        used_is_missing: whether what the profile drafts with is one of the latter.
    """

    used: Drafter | None
    ways: tuple[Choice, ...]
    missing: tuple[str, ...] = ()
    used_is_missing: bool = False


NONE = Choices(None, ())
"""Of a model that nothing drafts for."""


def of(
    architecture: Architecture,
    weights: Sequence[Weight],
    profile: Profile | None,
    loading: Loading,
    environ: Mapping[str, str],
    named: Drafter | None = None,
    given: Acceptance | None = None,
) -> Choices:
    """The ways to draft for a model.

    Args:
        architecture: the model.
        weights: as they are loaded.
        profile: the model's, which may list ways to draft and use one of them.
        loading: how weights are loaded.
        environ: the process's environment, which says where checkpoints are.
        named: what the user asks to draft with, None for what the profile does.
        given: what the user says of what is used, None for what is published.

    Raises:
        UserError: the profile's figures cannot be.
    """
    mtp = drafter.own(architecture, tuple(weights))
    missing: list[str] = []

    def look(draft: Draft) -> Drafter | None:
        if draft.model is None:
            return mtp
        try:
            return drafter.find(draft.model, environ, loading, draft.method, draft.revision, fetch=False)
        except UserError:
            name = f"{draft.method} {draft.model}"
            if name not in missing:
                missing.append(name)
            return None

    in_profile = _used(profile)
    used = named or (look(in_profile) if in_profile else mtp)
    unknown = named is None and in_profile is not None and in_profile.model is not None and used is None
    most = draft_limits.MOST_WITH_GDN if profile and profile.gated_delta_net else None
    ways: list[Choice] = []
    for draft in profile.drafts if profile else ():
        by = look(draft)
        if by is None:
            continue
        assert profile
        published = tuple(
            acceptance.of_counts(content, tokens, f"profile {profile.name}")
            for content, tokens in draft.accepted.items()
        )
        limit = most if draft_limits.is_reported(by.method) else None
        ways.append(Choice(by, (given,) if given and _same(by, used) else published, limit))
    for by in (used, mtp):
        if by is not None and not any(_same(by, way.drafter) for way in ways):
            ways.append(Choice(by, _else(by, used, mtp, given)))
    return Choices(used, tuple(ways), tuple(missing), unknown)


def _else(
    by: Drafter, used: Drafter | None, mtp: Drafter | None, given: Acceptance | None
) -> tuple[Acceptance, ...]:
    """What holds of a drafter that no profile lists: Qwen3-Next's figures stand in for other MTP layers."""
    if given and _same(by, used or mtp):
        return (given,)
    return (acceptance.published(),) if by.model is None else ()


def _same(one: Drafter, other: Drafter | None) -> bool:
    return other is not None and (one.method, one.model) == (other.method, other.model)


def _used(profile: Profile | None) -> Draft | None:
    """What a profile drafts with."""
    config = profile.values("cuda").get("speculative-config") if profile else None
    if profile is None or not isinstance(config, dict):
        return None
    fields: dict[str, Any] = draft_model.fields(config)
    other = draft_model.read(fields, profile.argument)
    if other is None:
        return None
    return Draft(other.method or "draft_model", other.name, other.revision)
