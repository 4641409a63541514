"""Block scales: the layout's arithmetic restated in numpy with ml_dtypes, and the error that it allows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, fake_quantize, global_scale, quantize
from helpers.nvfp4_layout import reference_values

#: Half the widest gap between neighbouring E2M1 values (4 and 6), over 6, and E4M3's rounding of the scale.
RELATIVE_TO_BLOCK = (1.0 / 6.0) * (1 + 2**-4) + 2**-4


matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([16, 32, 80])),
    elements=st.floats(-1e4, 1e4, width=32),
)


@pytest.mark.parametrize("negative", [False, True])
def test_a_block_of_zeros_is_zero_under_every_scale(negative: bool) -> None:
    """Writers differ in the scale of such a block: torchao 0.18 gives it 8, others 0 or 1.0."""
    scales = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).unsqueeze(1)  # 127 is NaN
    codes = torch.full((127, 8), 0x88 if negative else 0, dtype=torch.uint8)
    assert not dequantize(Nvfp4Tensor(codes, scales, torch.tensor(2.0))).count_nonzero()


@given(matrices)
@settings(deadline=None)
def test_dequantize_means_what_the_layout_says(values: np.ndarray) -> None:
    tensor = quantize(torch.from_numpy(values))
    np.testing.assert_array_equal(dequantize(tensor).numpy(), reference_values(tensor))


@given(matrices)
@settings(deadline=None)
def test_error_is_bounded_by_the_block(values: np.ndarray) -> None:
    blocks = values.reshape(values.shape[0], -1, 16)
    restored = dequantize(quantize(torch.from_numpy(values))).numpy().reshape(blocks.shape)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    # The smallest positive E4M3 scale is 2^-9; half of it rounds to zero.
    floor = np.abs(values).max() / 448 * 2**-10 * 1.001
    assert (np.abs(restored - blocks) <= RELATIVE_TO_BLOCK * largest + floor + 1e-30).all()


def test_what_fits_exactly_comes_back_exactly() -> None:
    # Scales that E4M3 holds, and a largest element that makes the global scale one.
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (64, 8, 16), generator=generator)
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    values = table[codes]
    values[..., 0] = 6
    scales = torch.tensor([1.0, 1.125, 3.5, 448.0, 2**-6, 26, 208, 0.4375]).reshape(1, 8, 1)
    x = (values * scales).flatten(-2)
    tensor = quantize(x)
    assert tensor.weight_scale_2.item() == 1
    assert torch.equal(dequantize(tensor), x)


def test_the_global_scale_is_modelopts() -> None:
    x = torch.linspace(-3, 2, 64).reshape(2, 32)
    tensor = quantize(x)
    assert tensor.weight_scale_2.item() == pytest.approx(3 / (6 * 448), rel=1e-6)
    assert tensor.weight_scale.to(torch.float32).max() == 448
    assert tensor.weight.dtype == torch.uint8
    assert tensor.weight.shape == (2, 16)
    assert tensor.weight_scale.shape == (2, 2)


def test_zeros_and_underflowing_blocks_become_zeros() -> None:
    assert torch.equal(dequantize(quantize(torch.zeros(2, 16))), torch.zeros(2, 16))
    x = torch.full((1, 32), 1e-12)
    x[0, 0] = 1e4
    restored = dequantize(quantize(x))
    assert restored[0, 0] == pytest.approx(1e4, rel=1e-6)
    assert torch.equal(restored[0, 16:], torch.zeros(16))


def test_a_scale_that_underflows_float32_divides_nothing_by_zero() -> None:
    smallest = torch.zeros(2, 16)
    smallest[0, 0] = 2.0**-149
    assert torch.isfinite(dequantize(quantize(smallest))).all()
    tiny = torch.full((1, 16), 2.0**-126)
    assert torch.allclose(dequantize(quantize(tiny)), tiny, rtol=2**-4, atol=0)


def test_stacked_matrices_are_quantized_one_by_one() -> None:
    x = (
        torch.randn(3, 8, 32, generator=torch.Generator().manual_seed(1))
        * torch.tensor([1.0, 10, 100])[:, None, None]
    )
    stacked = quantize(x)
    for index, matrix in enumerate(x):
        alone = quantize(matrix)
        assert torch.equal(stacked.weight[index], alone.weight)
        assert torch.equal(stacked.weight_scale[index].float(), alone.weight_scale.float())
        assert stacked.weight_scale_2[index] == alone.weight_scale_2
    assert torch.equal(dequantize(stacked)[2], dequantize(quantize(x[2])))


def test_a_shared_scale_is_used() -> None:
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    shared = global_scale(torch.tensor(100.0))
    assert quantize(x, shared).weight_scale_2 is shared
    assert torch.allclose(dequantize(quantize(x, shared)), x, atol=0.3 * x.abs().max().item())


def test_fake_quantize_rounds_forward_and_passes_gradients() -> None:
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(3), requires_grad=True)
    rounded = fake_quantize(x)
    torch.testing.assert_close(rounded, dequantize(quantize(x.detach())), rtol=1e-6, atol=1e-7)
    upstream = torch.randn_like(x)
    rounded.backward(upstream)
    assert torch.equal(x.grad, upstream)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(16), "matri"),
        (torch.zeros(2, 24), "multiple of 16"),
        (torch.full((1, 16), float("nan")), "NaN"),
        (torch.full((1, 16), float("inf")), "infinities"),
    ],
)
def test_what_nvfp4_cannot_hold_is_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(x)
