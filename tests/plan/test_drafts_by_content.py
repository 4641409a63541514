"""What `plan` says of several ways to draft, for code and for prose, without a network."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.host import machine
from dgx_vllm.host.machine import Machine
from dgx_vllm.plan import acceptance
from dgx_vllm.util.errors import UserError

Run = Callable[..., tuple[int, str, str]]
DFLASH = "dflash z-lab/Qwen3.8-27B-DFlash2"


@pytest.fixture
def planned(
    run: Run, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, laptop: Machine
) -> Callable[..., dict[str, Any]]:
    """The JSON of `dgx-vllm plan` on a machine without a network."""
    environment["HF_HUB_OFFLINE"] = "1"

    def call(*words: str) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(machine, "detect", lambda: laptop)
            status, out, err = run("plan", *words, "--json", "--memory", "128GB")
        assert status == 0, err
        return json.loads(out)

    return call


def best(plan: dict[str, Any], content: str) -> list[tuple[int, str | None, int]]:
    rows = plan["decode"]["best_drafts"]
    return [(row["batch"], row["by"], row["drafts"]) for row in rows if row["content"] == content]


def test_dflash_is_predicted_best_for_qwen3_8_27b(planned: Callable[..., dict[str, Any]]) -> None:
    plan = planned("nvidia/Qwen3.8-27B-NVFP4")
    assert [row[:2] for row in best(plan, "code")] == [(1, DFLASH), (4, DFLASH), (8, DFLASH)]
    assert [row[:2] for row in best(plan, "prose")] == [(1, DFLASH), (4, DFLASH), (8, DFLASH)]


def test_one_sequence_of_qwen3_8_27b_is_as_fast_as_published(planned: Callable[..., dict[str, Any]]) -> None:
    """capyctl, 2026-10-02, vLLM 0.30 with seven drafts: 28.7 and 34.5, without drafts 11.8 tok/s."""
    rows = planned("nvidia/Qwen3.8-27B-NVFP4")["decode"]["drafts"]
    speeds = {(row["by"], row["content"], row["drafts"]): row["tokens_per_second"] for row in rows}
    assert speeds[None, None, 0] == pytest.approx(11.8, rel=0.05)
    assert 28.7 <= speeds[DFLASH, "prose", 7] <= 34.5
    assert speeds[DFLASH, "code", 7] == pytest.approx(34.5, rel=0.05)


def test_code_and_prose_want_other_drafts_for_qwen3_5_122b(planned: Callable[..., dict[str, Any]]) -> None:
    plan = planned("nvidia/Qwen3.5-122B-A10B-NVFP4")
    assert {by for _, by, _ in best(plan, "code")} == {"dflash z-lab/Qwen3.5-122B-A10B-DFlash"}
    assert best(plan, "prose") == [(batch, "mtp", 2) for batch in (1, 4, 8)]


def test_the_users_acceptance_stands_for_the_profiles_drafts(planned: Callable[..., dict[str, Any]]) -> None:
    rows = planned("nvidia/Qwen3.8-27B-NVFP4", "--acceptance", "0.5,0.25")["decode"]["drafts"]
    mine = [row for row in rows if row["by"] == DFLASH]
    assert [(row["drafts"], row["accepted"], row["derived"]) for row in mine] == [
        (1, 1.5, False),
        (2, 1.75, False),
    ]


def test_weights_and_windows_of_the_draft_model_count(planned: Callable[..., dict[str, Any]]) -> None:
    """3,848,808,960 bytes, and five layers that keep 2048 tokens of 8 heads by 128 in FP8."""
    with_drafts = planned("nvidia/Qwen3.8-27B-NVFP4")
    without = planned("nvidia/Qwen3.8-27B-NVFP4", "--drafts", "0")
    more = with_drafts["memory"]["weights"] - without["memory"]["weights"]
    assert more == pytest.approx(3_848_808_960, rel=0.1)
    assert with_drafts["cache"]["window_bytes_per_token"] == 5 * 2 * 8 * 128
    assert without["cache"]["window"] == 0


@given(
    st.dictionaries(st.integers(1, 16), st.floats(0, 1), min_size=1, max_size=5),
)
def test_published_tokens_a_step_are_met_at_their_counts(shares: dict[int, float]) -> None:
    """Shares between published counts are derived, and none is above the one before."""
    tokens, before, last, ratio = {}, 1.0, 0, 1.0
    for count in sorted(shares):
        ratio *= shares[count]
        before += ratio * (count - last)
        tokens[str(count)], last = before, count
    derived = acceptance.of_counts("prose", tokens, "a test")
    assert len(derived.shares) == last
    for count in sorted(shares):
        assert derived.tokens(count) == pytest.approx(tokens[str(count)], rel=1e-6)
        assert not derived.derived(count)
    assert all(0 <= share <= 1 + 1e-9 for share in derived.shares)
    assert all(derived.tokens(one) <= derived.tokens(two) + 1e-9 for one, two in pairwise(range(last + 1)))


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ({"two": 1.5}, "'two' is not a number of drafts"),
        ({"0": 1.0}, "'0' is not a number of drafts"),
        ({"2": 3.5}, "2 drafts yield from 1 to 3 tokens a step, not 3.5"),
        ({"2": 0.5}, "2 drafts yield from 1 to 3 tokens a step, not 0.5"),
    ],
)
def test_figures_that_cannot_be_are_refused(tokens: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        acceptance.of_counts("code", tokens, "profile mine")
