"""Fitted block scales: against a search of every E4M3 scale in float64 that shares no code with ours."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, fitted, quantize
from helpers.nvfp4_layout import reference_values

Draw = Callable[[np.random.Generator], np.ndarray]
DRAWN: dict[str, Draw] = {
    "normal": lambda rng: rng.standard_normal((64, 256)),
    "heavy tails": lambda rng: rng.standard_t(4, (64, 256)),
    "uniform": lambda rng: rng.uniform(-1, 1, (64, 256)),
    "rows of many sizes": lambda rng: rng.standard_normal((64, 256)) * 10.0 ** rng.uniform(-3, 0, (64, 1)),
}


def blocks(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64).reshape(-1, 16)


def errors(values: np.ndarray, tensor: Nvfp4Tensor) -> np.ndarray:
    """Each block's squared error."""
    return ((blocks(reference_values(tensor)) - blocks(values)) ** 2).sum(axis=1)


def least(values: np.ndarray, weight_scale_2: float) -> np.ndarray:
    """The least squared error that any scale leaves to each block."""
    scales = np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64) * weight_scale_2
    found = (blocks(values) ** 2).sum(axis=1)
    for step in scales[1:]:
        rounded = (blocks(values) / step).astype(ml_dtypes.float4_e2m1fn).astype(np.float64) * step
        found = np.minimum(found, ((rounded - blocks(values)) ** 2).sum(axis=1))
    return found


@pytest.mark.parametrize("kind", DRAWN)
def test_it_is_a_thousandth_from_the_best_there_is(
    kind: str, record_property: Callable[[str, object], None]
) -> None:
    values = DRAWN[kind](np.random.default_rng(0)).astype(np.float32)
    plain, fit = quantize(torch.from_numpy(values)), quantize(torch.from_numpy(values), scales=fitted)
    best = least(values, plain.weight_scale_2.item()).sum()
    record_property(
        f"{kind}: of the error by the largest", errors(values, fit).sum() / errors(values, plain).sum()
    )
    assert best * (1 - 1e-6) <= errors(values, fit).sum() <= 1.001 * best
    assert errors(values, fit).sum() < 0.9 * errors(values, plain).sum()


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.sampled_from([16, 32, 80])),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
@settings(deadline=None)
def test_no_block_is_worse_than_by_its_largest(values: np.ndarray) -> None:
    x = torch.from_numpy(values)
    rounding = 1e-5 * (blocks(values) ** 2).sum(axis=1)
    assert (
        errors(values, quantize(x, scales=fitted)) <= errors(values, quantize(x)) + rounding + 1e-30
    ).all()


def test_what_fits_exactly_stays_exact() -> None:
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    values = table[np.random.default_rng(0).integers(0, 16, (64, 8, 16))]
    values[..., 0] = 6
    values *= np.array([1.0, 1.125, 3.5, 448.0, 2**-6, 26, 208, 0.4375], np.float32)[:, None]
    x = values.reshape(64, -1)
    np.testing.assert_array_equal(reference_values(quantize(torch.from_numpy(x), scales=fitted)), x)


def test_every_scale_is_a_number() -> None:
    """At both ends of E4M3: blocks beside the largest of a matrix, and those that vanish beside it."""
    sizes = 10.0 ** np.linspace(-12, 4, 300)[:, None]
    x = (np.random.default_rng(0).standard_normal((300, 16)) * sizes).astype(np.float32)
    scale = quantize(torch.from_numpy(x), scales=fitted).weight_scale.float()
    assert scale.isfinite().all()
    assert (scale >= 0).all()
    zeros = quantize(torch.zeros(3, 32), scales=fitted)
    assert not reference_values(zeros).any()
