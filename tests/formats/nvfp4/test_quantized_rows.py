"""Matrices to NVFP4 some rows at a time: what `quantize` says of the whole, in the tensor cores' layout."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.formats.nvfp4 import by_rows, fitted, quantize
from dgx_vllm.kernels import reference


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 300), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([1, 2**10, 1 << 21]))
def test_it_is_what_is_said_of_the_whole(height: int, width: int, seed: int, chunk: int) -> None:
    columns = 64 * width
    weight = torch.randn(height, columns, generator=torch.Generator().manual_seed(seed)).bfloat16()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_rows, "_CHUNK", chunk)
        got = by_rows.quantize(weight)
    assert got is not None
    whole = quantize(weight, scales=fitted)
    assert torch.equal(got.weight, whole.weight)
    assert torch.equal(got.weight_scale_2, whole.weight_scale_2)
    straight = reference.unswizzle(got.weight_scale, height, columns // 16)
    assert torch.equal(straight.view(torch.uint8), whole.weight_scale.view(torch.uint8))
    assert got.weight_scale.shape == (-(-height // 128) * 128, columns // 16)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_is_not_quantized(value: float) -> None:
    weight = torch.ones(130, 64).bfloat16()
    weight[129, 3] = value
    assert by_rows.quantize(weight) is None
