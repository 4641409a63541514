"""What is measured: shapes, experts drawn for tokens, and the float64 reference, on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.bench_kernels import float64_layer, layer_inputs, random_experts, shapes
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.kernels import reference as operator
from dgx_vllm.kernels.moe_layer import ExpertWeights
from dgx_vllm.util.errors import UserError

SMALL = shapes.Moe("small", 128, 64, 12, 3, 192)
sizes = st.integers(1, 40).map(lambda n: 64 * n)


@given(sizes, sizes, st.integers(1, 300), st.integers(1, 32), sizes)
def test_a_shape_is_five_sizes(hidden: int, intermediate: int, count: int, top_k: int, shared: int) -> None:
    text = f"{hidden}/{intermediate}/{count}/{top_k}/{shared}"
    if top_k > count:
        with pytest.raises(UserError):
            shapes.parse(text)
    else:
        assert shapes.parse(text) == [shapes.Moe(text, hidden, intermediate, count, top_k, shared)]


@given(st.text("0123456789/-x", max_size=20))
def test_what_is_no_shape_is_refused(text: str) -> None:
    try:
        found = shapes.parse(text)
    except UserError:
        return
    assert [shape.name for shape in found] == [text]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20))
def test_distinct_experts_are_distinct_and_rotate(tokens: int, top_k: int, layers: int) -> None:
    shape = shapes.Moe("", 64, 64, 16, top_k, 64)
    drawn = layer_inputs.distinct(layers, tokens, shape, torch.Generator().manual_seed(0))
    for ids in drawn:
        assert ids.shape == (tokens, top_k)
        assert len(ids.unique()) == tokens * top_k
    of_a_deck = 16 // (tokens * top_k)
    first = torch.cat([ids.flatten() for ids in drawn[:of_a_deck]])
    assert len(first.unique()) == len(first)


def test_whoever_is_measured_gets_the_same_inputs() -> None:
    for overlap in (False, True):
        one, other = (layer_inputs.draw(SMALL, 2, 3, overlap=overlap, device="cpu") for _ in range(2))
        for a, b in zip(one, other, strict=True):
            assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def weights() -> Weights:
    generator = torch.Generator().manual_seed(3)
    return Weights(
        Experts(SMALL.experts, SMALL.hidden, SMALL.intermediate, generator),
        Experts(1, SMALL.hidden, SMALL.shared_intermediate, generator),
    )


@given(st.integers(1, 3), st.integers(1, 300), st.integers(1, 11))
def test_swizzling_is_what_the_operator_undoes(count: int, rows: int, blocks: int) -> None:
    scales = torch.randint(0, 127, (count, rows, blocks), dtype=torch.uint8)
    for straight, swizzled in zip(scales, random_experts.swizzle(scales), strict=True):
        back = operator.unswizzle(swizzled, rows, blocks).view(torch.uint8)
        assert torch.equal(back, straight)


def test_the_reference_is_the_operator_s_layer_in_float64() -> None:
    """They share nothing: the operator's reads swizzled scales, in float32."""
    both = weights()
    (given_,) = layer_inputs.draw(SMALL, 5, 1, overlap=True, device="cpu")
    e = both.routed
    w13 = e.w13, e.s13_swizzled.view(torch.float8_e4m3fn), e.g13
    w2 = e.w2, e.s2_swizzled.view(torch.float8_e4m3fn), e.g2
    result = operator.moe_decode(given_.x, ExpertWeights(*w13, *w2), given_.routing, None, "silu")
    assert float64_layer.relative_l2(result, float64_layer.routed(both, given_)) < 1e-5


def test_the_shared_expert_is_weighted_by_its_gate() -> None:
    both = weights()
    (given_,) = layer_inputs.draw(SMALL, 4, 1, overlap=True, device="cpu")
    alone = float64_layer.expert(both.shared, 0, given_.x.double())
    factor = 1 / (1 + np.exp(-(given_.x.double() @ given_.gate.double()).numpy()))[:, None]
    np.testing.assert_allclose(float64_layer.shared(both, given_).numpy(), alone.numpy() * factor, rtol=1e-12)


def test_bytes_of_an_expert_are_half_and_a_sixteenth_a_weight() -> None:
    each = weights().routed
    assert each.bytes_each == 3 * SMALL.hidden * SMALL.intermediate * 9 // 16
