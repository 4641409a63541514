"""What the launcher says of drafts when the server ends, by the server's counters."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.launch.process.draft_statistics import Drafted, read
from helpers.launching import Start

# As vLLM 0.32.0 writes it, two engines.
METRICS = """# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="demo"} 80.0
vllm:spec_decode_num_drafts_total{engine="1",model_name="demo"} 20.0
# HELP vllm:spec_decode_num_drafts_created Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_created gauge
vllm:spec_decode_num_drafts_created{engine="0",model_name="demo"} 1.7e+09
# HELP vllm:spec_decode_num_draft_tokens_total Number of draft tokens.
# TYPE vllm:spec_decode_num_draft_tokens_total counter
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="demo"} 160.0
vllm:spec_decode_num_draft_tokens_total{engine="1",model_name="demo"} 40.0
# HELP vllm:spec_decode_num_accepted_tokens_total Number of accepted tokens.
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="demo"} 110.0
vllm:spec_decode_num_accepted_tokens_total{engine="1",model_name="demo"} 32.0
# HELP vllm:spec_decode_num_accepted_tokens_per_pos_total Accepted tokens per draft position.
# TYPE vllm:spec_decode_num_accepted_tokens_per_pos_total counter
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="demo",position="0"} 66.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="demo",position="1"} 44.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="1",model_name="demo",position="0"} 18.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="1",model_name="demo",position="1"} 14.0
"""
LINE = "200 tokens drafted, 142 accepted, 2.42 tokens a step; by position 0.840,0.580"


def test_engines_are_summed() -> None:
    found = read(METRICS)
    assert found == Drafted(100, 200, 142, (84, 58))
    assert str(found) == LINE


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=4), more=st.integers(0, 50))
def test_the_length_is_one_and_the_shares(counts: list[int], more: int) -> None:
    falling = tuple(sorted(counts, reverse=True))
    rounds = max(falling[0] + more, 1)
    found = Drafted(rounds, rounds * len(falling), sum(falling), falling)
    assert found.length == pytest.approx(1 + sum(found.shares))


@pytest.mark.parametrize("text", ["", METRICS.replace(" 80.0", " 0.0").replace(" 20.0", " 0.0")])
def test_nothing_drafted_is_nothing_to_say(text: str) -> None:
    assert read(text) is None


DRAFTS = ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 2}']


def test_one_line_at_the_end(start: Start) -> None:
    server = start(*DRAFTS, metrics=METRICS)
    server.await_ready()
    outcome = server.end(signal.SIGTERM)
    assert outcome.status == 0
    (line,) = [line for line in outcome.err.splitlines() if "drafted" in line]
    assert line.startswith(f"dgx-vllm: {LINE} (to choose their number: dgx-vllm plan ")
    assert line.endswith("--acceptance 0.840,0.580)")


@pytest.mark.parametrize(
    ("words", "metrics"),
    [([], METRICS), (DRAFTS, ""), (DRAFTS, "no } metrics {"), (DRAFTS, None)],
    ids=["no drafts", "no counters", "no metrics", "no answer"],
)
def test_no_line_where_there_is_nothing_to_say(start: Start, words: list[str], metrics: str | None) -> None:
    server = start(*words, **({} if metrics is None else {"metrics": metrics}))
    server.await_ready()
    outcome = server.end(signal.SIGTERM)
    assert outcome.status == 0
    assert "drafted" not in outcome.err
