"""E4M3 with a scale for each row: rounding against ml_dtypes, and some rows at a time."""

import ml_dtypes
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.evaluation import rounding


def student(seed: int, rows: int = 4, columns: int = 64) -> torch.Tensor:
    """Rows of sizes from 1e-4 to 1e4 with heavy tails."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-4, 4, (rows, 1))
    return torch.from_numpy(rng.standard_t(3, (rows, columns)) * sizes).float()


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_rounding_is_ml_dtypes(seed: int) -> None:
    weight = student(seed)
    scale = rounding.absmax_scale(weight)
    codes = np.clip(weight.numpy() / scale.numpy(), -448, 448).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(
        rounding.rounded(weight, scale).numpy(), codes.astype(np.float32) * scale.numpy()
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_chunks_of_rows_are_fitted_as_the_whole(seed: int) -> None:
    weight = student(seed)
    whole = rounding.fp8_fitted(iter(()))(weight)
    parts = [rounding.fp8_fitted(iter(()))(part) for part in weight.split(3)]
    assert torch.equal(torch.cat(parts), whole)


def test_zeros_and_single_values() -> None:
    weight = torch.tensor([[0.0, 0.0], [3.0, 0.0], [-1e-38, 0.0]])
    scale = rounding.absmax_scale(weight)
    assert (scale > 0).all()
    assert torch.isfinite(rounding.rounded(weight, scale)).all()
    assert rounding.rounded(weight, rounding.absmax_scale(weight))[1, 0] == 3
