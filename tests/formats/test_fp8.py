"""FP8 with fitted scales, against ml_dtypes' E4M3 and the plain choice of scale."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.formats import fp8
from helpers.live_tensors import Live

STEP = 2.0**-4  # half of E4M3's, relative to the value
SUBNORMAL = 2.0**-10  # half of the subnormals'


def values(quantized: fp8.Fp8Tensor) -> np.ndarray:
    """What the codes stand for, by ml_dtypes, in float64."""
    codes = quantized.weight.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
    return codes.astype(np.float64) * quantized.scale.double().numpy()


def by_largest(weight: np.ndarray) -> np.ndarray:
    """What is left of a weight whose rows' largest magnitudes become E4M3's largest, 448."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 448, 1e-30)
    return (weight / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale


def drawn(kind: str, rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    weight = {
        "gaussian": lambda: generator.standard_normal((rows, columns)),
        "heavy tails": lambda: generator.standard_t(3, (rows, columns)),
        "outlier columns": lambda: (
            generator.standard_normal((rows, columns)) * np.where(np.arange(columns) % 500 == 7, 50, 1)
        ),
    }[kind]()
    return torch.from_numpy(weight * 0.02).bfloat16()


KINDS = ["gaussian", "heavy tails", "outlier columns"]


@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 20),
    columns=st.integers(1, 300),
    exponent=st.integers(-60, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_value_is_within_half_a_step(
    kind: str, rows: int, columns: int, exponent: int, seed: int
) -> None:
    weight = drawn(kind, rows, columns, seed) * 2.0**exponent
    quantized = fp8.quantize(weight)
    exact, scale = weight.double().numpy(), quantized.scale.double().numpy()
    bound = np.maximum(np.abs(exact) * STEP, scale * SUBNORMAL) * (1 + 1e-6)
    assert (np.abs(values(quantized) - exact) <= bound).all()


@given(kind=st.sampled_from(KINDS), columns=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_no_row_is_worse_than_by_its_largest(kind: str, columns: int, seed: int) -> None:
    weight = drawn(kind, 16, columns, seed)
    exact = weight.double().numpy()
    fitted = ((values(fp8.quantize(weight)) - exact) ** 2).sum(axis=1)
    plain = ((by_largest(exact) - exact) ** 2).sum(axis=1)
    assert (fitted <= plain * (1 + 1e-3) + 1e-12 * (exact**2).sum(axis=1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_fitting_gains(kind: str, record_property: Callable[[str, object], None]) -> None:
    """On rows of Qwen3-Next's hidden size."""
    weight = drawn(kind, 256, 2048, 1)
    exact = weight.double().numpy()
    fitted, plain = (
        float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        for found in (values(fp8.quantize(weight)), by_largest(exact))
    )
    record_property(f"relative L2 error, {kind}", f"{fitted:.5f}, by the largest {plain:.5f}")
    assert fitted < plain


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = drawn("heavy tails", 37, 64, 2)
    whole = fp8.quantize(weight)
    monkeypatch.setattr(fp8, "_CHUNK", 5 * 64)
    pieces = fp8.quantize(weight)
    assert torch.equal(whole.scale, pieces.scale)
    assert torch.equal(whole.weight.view(torch.uint8), pieces.weight.view(torch.uint8))


def test_a_row_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 32, dtype=torch.bfloat16)
    weight[1] = 3
    quantized = fp8.quantize(weight)
    np.testing.assert_allclose(values(quantized), weight.double().numpy(), rtol=1e-6)
    assert quantized.scale.isfinite().all()


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_shows_in_its_scale(value: float) -> None:
    weight = torch.ones(3, 32, dtype=torch.bfloat16)
    weight[1, 5] = value
    assert fp8.quantize(weight).scale.isfinite().flatten().tolist() == [True, False, True]


@pytest.mark.parametrize(("rows", "columns"), [(3000, 2048), (16, 64), (2, 3_000_000)])
def test_it_takes_no_more_room_than_it_says(rows: int, columns: int) -> None:
    weight = torch.ones(rows, columns, dtype=torch.bfloat16)
    with Live() as live:
        fp8.quantize(weight)
    assert rows * columns <= live.peak <= fp8.room(weight)
