"""The ways to draft that profiles list: figures that can be, and drafts that vLLM and the drafter allow."""

from typing import Any

import known_configs
import pytest
from profile_cases import Answers, draft_name, speculation

from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Draft, Profile

LISTED = [(of, draft) for of in profile.builtin() for draft in of.drafts]
each_draft = pytest.mark.parametrize(
    ("of", "draft"), LISTED, ids=[draft_name(of, draft) for of, draft in LISTED]
)
each_known = pytest.mark.parametrize(
    ("of", "draft"),
    [(of, draft) for of, draft in LISTED if draft.model not in known_configs.UNKNOWN],
    ids=[draft_name(of, draft) for of, draft in LISTED if draft.model not in known_configs.UNKNOWN],
)
DRAFTING = [of for of in profile.builtin() if speculation(of)]
#: Of Qwen3.6-35B no acceptance was published, and it lists no drafts.
UNLISTED: list[str] = []
each_drafting = pytest.mark.parametrize("of", DRAFTING, ids=lambda of: of.name)


def block(config: dict[str, Any]) -> int | None:
    """Tokens in a drafter's block, the known one and those that are drafted; None if it has none."""
    size = config.get("block_size") or config.get("dflash_config", {}).get("block_size")
    return None if size is None else int(size)


def most(draft_model: str) -> int | None:
    """The most tokens that a block drafter was trained to draft, None where nothing limits them."""
    config = known_configs.config(draft_model)
    if config is None:
        if draft_model not in known_configs.UNKNOWN:
            pytest.fail(f"add config.json of {draft_model} to tests/profiles/configs/drafts")
        return None
    size = block(config)
    return None if size is None else size - 1


@each_draft
def test_accepted_tokens_are_possible(of: Profile, draft: Draft) -> None:
    for kind, by_count in draft.accepted.items():
        counts = [int(count) for count in by_count if count.isdecimal()]
        assert len(counts) == len(by_count), kind
        assert counts == sorted(set(counts)), kind
        assert all(count > 0 for count in counts), kind
        assert all(1 <= accepted <= int(count) + 1 for count, accepted in by_count.items()), kind
        values = list(by_count.values())
        assert values == sorted(values), kind


@each_draft
def test_figures_are_for_counts_that_the_drafter_can_draft(of: Profile, draft: Draft) -> None:
    limit = most(draft.model) if draft.model else None
    if limit is not None:
        counts = [int(count) for by_count in draft.accepted.values() for count in by_count]
        assert all(count <= limit for count in counts)


@each_drafting
def test_what_serve_drafts_with_is_among_the_drafts(of: Profile) -> None:
    own = speculation(of)
    listed = {(draft.method, draft.model, draft.revision) for draft in of.drafts}
    asked = own["method"], own.get("model"), own.get("revision")
    assert (asked in listed) == (of.name not in UNLISTED)


@each_drafting
def test_serve_drafts_no_more_than_the_drafter_can(of: Profile) -> None:
    own = speculation(of)
    assert own["num_speculative_tokens"] >= 1
    if own["method"] in ("dflash", "dspark"):
        limit = most(own["model"])
        assert limit is not None
        assert own["num_speculative_tokens"] <= limit


@each_known
def test_vllm_accepts_each_draft(of: Profile, draft: Draft, answers: Answers) -> None:
    said = answers.get(draft_name(of, draft))
    if said is None:
        pytest.fail(f"add config.json of {draft.model} to tests/profiles/configs/drafts")
    assert said["refused"] is None
    assert said["drafts"]["method"] == draft.method
