"""Bytes per token and speeds against what is published of Qwen3-Next-80B-A3B in NVFP4 on one GB10."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.plan import cache, decode_speed, gb10
from dgx_vllm.plan.cache import Options
from dgx_vllm.plan.decode_speed import Step, distinct_experts
from dgx_vllm.plan.model import Model

# MB a token at batch 1 and a context of 1024, FP8 KV cache and BF16 states, and the precision.
PUBLISHED = {
    "GDN in_proj_qkvz": ("BF16", 1812),
    "routed experts": ("NVFP4", 849),
    "lm_head": ("BF16", 622),
    "attention q/k/v": ("BF16", 453),
    "GDN out_proj": ("NVFP4", 170),
    "router": ("BF16", 101),
    "shared expert": ("NVFP4", 85),
}
# The parts that the table gives as one.
REST, REST_MB = ("recurrent state", "attention o_proj", "KV cache", "GDN in_proj_ba, conv"), 157
TOTAL_MB = 4249
# What the table leaves out: MB of convolution states, norms, and one row of the embedding.
LEFT_OUT = ("convolution state", "norms and scalars", "embedding")


def step(model: Model, batch: int = 1, drafts: int = 0, context: int = 1024) -> Step:
    kept = cache.of(model.architecture, Options(cache_dtype="fp8", drafts=drafts))
    return decode_speed.step(model.architecture, model.weights, kept, batch, context, drafts)


def test_each_part_is_as_published(qwen3_next: Model) -> None:
    moved = {each.part: each for each in step(qwen3_next).traffic}
    for part, (precision, megabytes) in PUBLISHED.items():
        assert (moved[part].precision, round(moved[part].bytes / 1e6)) == (precision, megabytes)
    assert round(sum(moved[part].bytes for part in REST) / 1e6) == REST_MB
    assert set(moved) == {*PUBLISHED, *REST, *LEFT_OUT}


def test_the_total_is_as_published(qwen3_next: Model) -> None:
    whole = step(qwen3_next)
    table = sum(each.bytes for each in whole.traffic if each.part not in LEFT_OUT)
    assert round(table / 1e6) == TOTAL_MB
    # 3.5 MB of convolution states read and written, 0.4 MB of norms.
    assert round(whole.bytes / 1e6) == TOTAL_MB + 4
    assert 1e6 * round(table / 1e6) == gb10.PUBLISHED_BYTES
    assert gb10.READ_PEAK / table == pytest.approx(54.6, abs=0.05)
    assert gb10.NOMINAL_BANDWIDTH / table == pytest.approx(64.3, abs=0.06)


@pytest.mark.parametrize(
    ("lever", "megabytes"),
    [({"lm_head"}, 3801), ({"lm_head", "in_proj_qkvz", "q_proj", "k_proj", "v_proj"}, 2174)],
)
def test_quantizing_more_is_as_published(lever: set[str], megabytes: int) -> None:
    """What leaving fewer layers in BF16 would give."""
    left = [
        name
        for name in QWEN3_NEXT_NVFP4["quantization_config"]["ignore"]
        if name.rpartition(".")[2] not in lever
    ]
    changed = {**QWEN3_NEXT_NVFP4["quantization_config"], "ignore": left}
    whole = step(understood(QWEN3_NEXT_NVFP4, quantization_config=changed))
    table = sum(each.bytes for each in whole.traffic if each.part not in LEFT_OUT)
    assert round(table / 1e6) == megabytes


@pytest.mark.parametrize(
    ("batch", "drafts", "low", "high"),
    [
        # Decode of one stream as published, without drafts and with two.
        (1, 0, 41.8, 42.0),
        (1, 2, 60, 72),
        # Aggregates with two drafts: 237, 487 and 658 tokens/s. The last one is exceeded by 12%.
        (8, 2, 237 * 0.97, 237 * 1.03),
        (32, 2, 487 * 0.95, 487 * 1.05),
        (64, 2, 658 * 0.85, 658 * 1.15),
    ],
)
def test_published_speeds_are_met(
    qwen3_next: Model,
    batch: int,
    drafts: int,
    low: float,
    high: float,
    record_property: Callable[[str, object], None],
) -> None:
    accepted = gb10.PUBLISHED_ACCEPTANCE[drafts] if drafts else 1.0
    predicted = step(qwen3_next, batch, drafts).expected(accepted)
    record_property("tokens/s", round(predicted, 1))
    assert low <= round(predicted, 1) <= high


def test_drafting_ceilings_are_near_the_published_ones(qwen3_next: Model) -> None:
    """82 tokens/s with two drafts and 35% of the expert reads shared, written states left out."""
    whole = step(qwen3_next, drafts=2)
    assert whole.ceiling(gb10.PUBLISHED_ACCEPTANCE[2]) == pytest.approx(82, rel=0.02)


@given(
    experts=st.integers(1, 1024),
    share=st.floats(0.001, 1),
    tokens=st.integers(1, 512),
    shared=st.floats(0, 1),
)
def test_distinct_experts_are_between_one_tokens_and_all(
    experts: int, share: float, tokens: int, shared: float
) -> None:
    per_token = max(1, int(experts * share))
    found = distinct_experts(experts, per_token, tokens, shared)
    assert per_token - 1e-6 <= found <= experts + 1e-6
    assert found <= distinct_experts(experts, per_token, tokens + 1, shared) + 1e-6


def test_distinct_experts_by_drawing() -> None:
    """Against experts really drawn."""
    import numpy as np

    random = np.random.default_rng(0)
    drawn = [
        len(set(np.concatenate([random.choice(64, 6, replace=False) for _ in range(9)]))) for _ in range(4000)
    ]
    assert distinct_experts(64, 6, 9, shared=0) == pytest.approx(np.mean(drawn), rel=0.01)


@given(batch=st.integers(1, 256), context=st.integers(1, 262144), drafts=st.integers(0, 4))
def test_bytes_never_decrease(qwen3_next: Model, batch: int, context: int, drafts: int) -> None:
    bytes_ = step(qwen3_next, batch, drafts, context).bytes
    assert bytes_ <= step(qwen3_next, batch + 1, drafts, context).bytes
    assert bytes_ <= step(qwen3_next, batch, drafts, context + 1).bytes
    assert bytes_ <= step(qwen3_next, batch, drafts + 1, context).bytes
    assert (
        step(qwen3_next, batch, drafts, context).ceiling()
        > step(qwen3_next, batch, drafts, context).expected()
    )


def test_a_tied_embedding_is_read_whole() -> None:
    small = {
        **{"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "intermediate_size": 128, "tie_word_embeddings": True},
    }
    moved = {each.part: each.bytes for each in step(understood(small)).traffic}
    assert moved["embedding"] == 1000 * 64 * 2
    apart = {each.part: each.bytes for each in step(understood(small, tie_word_embeddings=False)).traffic}
    assert apart["embedding"] == 64 * 2
    assert apart["lm_head"] == 1000 * 64 * 2
