"""Drafts weighed by how many hold: `dgx-vllm plan --acceptance`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.plan import acceptance, gb10, outlook
from dgx_vllm.plan.acceptance import Acceptance
from dgx_vllm.plan.outlook import DRAFT_BATCHES, Outlook, PlanRequest
from dgx_vllm.profiles import profile
from dgx_vllm.util.errors import UserError

shares = st.lists(st.floats(0, 1), min_size=1, max_size=4).map(lambda s: tuple(sorted(s, reverse=True)))


def planned(given: Acceptance | None) -> Outlook:
    return outlook.of(understood(QWEN3_NEXT_NVFP4), None, PlanRequest(10**12, "given", acceptance=given))


def test_the_published_tokens_a_step_come_back() -> None:
    found = acceptance.published()
    for drafts, tokens in gb10.PUBLISHED_ACCEPTANCE.items():
        assert found.tokens(drafts) == pytest.approx(tokens)
    assert found.tokens(0) == 1


@given(shares=shares)
def test_what_is_written_is_read(shares: tuple[float, ...]) -> None:
    assert acceptance.parse(",".join(map(repr, shares))).shares == shares


@given(shares=shares, worse=st.floats(0.001, 1))
def test_shares_never_rise(shares: tuple[float, ...], worse: float) -> None:
    with pytest.raises(UserError, match="none above the one before"):
        acceptance.parse(",".join(map(repr, (*shares, shares[-1] + worse))))


@given(shares=shares)
def test_the_best_is_the_fastest(shares: tuple[float, ...]) -> None:
    found = planned(Acceptance(shares, "test"))
    assert [each.drafts for each in found.drafting] == list(range(len(shares) + 1))
    for place in range(len(DRAFT_BATCHES)):
        best = found.drafting[found.best_drafts[place]]
        for each in found.drafting:
            step = each.steps[place]
            tokens = 1 + sum(shares[: each.drafts])
            assert each.speeds[place] == pytest.approx(step.batch * tokens / step.seconds)
            assert each.speeds[place] <= best.speeds[place]


def test_drafts_that_never_hold_are_not_drafted_and_those_that_do_are() -> None:
    assert planned(Acceptance((0.0, 0.0, 0.0), "test")).best_drafts == (0, 0, 0)
    assert planned(Acceptance((1.0, 1.0, 1.0), "test")).best_drafts == (3, 3, 3)


def test_a_second_draft_must_pay_for_itself() -> None:
    """At batch 1 a draft costs what it reads, against a step's share of a token."""
    found = planned(Acceptance((0.8, 0.8), "test"))
    one, two = (found.drafting[count].steps[0].seconds for count in (1, 2))
    worth = 1.8 * (two / one - 1)
    assert planned(Acceptance((0.8, worth * 1.01), "test")).best_drafts[0] == 2
    assert planned(Acceptance((0.8, worth * 0.99), "test")).best_drafts[0] == 1


def test_models_without_mtp_have_no_drafts_to_weigh() -> None:
    found = outlook.of(
        understood(QWEN3_NEXT_NVFP4, num_nextn_predict_layers=0), None, PlanRequest(10**12, "given")
    )
    assert found.model.architecture.draft is None
    assert found.drafting == ()
    assert found.best_drafts == ()


def test_memory_is_planned_for_the_profile_s_drafts() -> None:
    """As `serve` would load it: the MTP layers too, unless drafts are taken back."""
    tuned = profile.by_name("qwen3-next-80b-a3b-instruct-nvfp4")
    model = understood(QWEN3_NEXT_NVFP4)

    def weights(drafts: int | None) -> int:
        found = outlook.of(model, tuned, PlanRequest(10**12, "given", drafts=drafts))
        assert found.options.drafts == (2 if drafts is None else drafts)
        return found.budget.weights

    # vLLM holds A_log, 32 numbers in each of 36 layers, in float32.
    wider = 36 * 32 * 2
    assert weights(None) == weights(2) == model.bytes(drafting=True) + wider
    assert weights(0) == model.bytes(drafting=False) + wider < weights(None)


def test_a_profile_s_drafts_do_not_reach_a_model_without_mtp() -> None:
    tuned = profile.by_name("qwen3-next-80b-a3b-instruct-nvfp4")
    model = understood(QWEN3_NEXT_NVFP4, num_nextn_predict_layers=0)
    assert outlook.of(model, tuned, PlanRequest(10**12, "given")).options.drafts == 0
