"""The operator `linear_nvfp4`: on the CPU against float64, and what its kernels are given on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nvfp4_layout import reference_values

pytest.importorskip("vllm")

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, by_rows, fitted, quantize
from dgx_vllm.kernels import reference
from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_TOKENS
from dgx_vllm.plugin.dense import nvfp4_linear
from dgx_vllm.plugin.dense.nvfp4_linear import linear_nvfp4, on_gpu

BF16 = 2.0**-8
ROWS, K = 192, 128


def drawn(height: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(height, k, generator=torch.Generator().manual_seed(seed)).bfloat16()


def layer(weight: torch.Tensor) -> Nvfp4Tensor:
    held = by_rows.quantize(weight)
    assert held is not None
    return held


def served(x: torch.Tensor, held: Nvfp4Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return linear_nvfp4(x, held.weight, held.weight_scale, held.weight_scale_2, bias, None)


@settings(deadline=None)
@given(
    tokens=st.integers(0, 20),
    height=st.integers(1, 5).map(lambda n: DIM_MULTIPLE * n),
    k=st.integers(1, 5).map(lambda n: DIM_MULTIPLE * n),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_on_the_cpu_it_is_the_product(tokens: int, height: int, k: int, bias: bool, seed: int) -> None:
    """Any number of tokens: the matrix as a checkpoint's layout means it, by numpy."""
    weight, x = drawn(height, k, seed), drawn(tokens, k, seed + 1)
    offset = drawn(1, height, seed + 2)[0] if bias else None
    out = served(x, layer(weight), offset)
    exact = x.double().numpy() @ reference_values(quantize(weight, scales=fitted)).astype(np.float64).T
    exact += 0 if offset is None else offset.double().numpy()
    assert out.dtype == torch.bfloat16
    np.testing.assert_allclose(out.double().numpy(), exact, rtol=BF16, atol=1e-4 * k**0.5)


def test_leading_dimensions_are_kept() -> None:
    held, x = layer(drawn(ROWS, K)), drawn(6, K, seed=1)
    assert torch.equal(served(x.view(2, 3, K), held), served(x, held).view(2, 3, ROWS))
    assert served(x.view(2, 3, K)[:, :0], held).shape == (2, 0, ROWS)


class Calls:
    """What the CUDA implementation calls, in the place of our kernel and of vLLM's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched: list[torch.Tensor] = []
        monkeypatch.setattr(nvfp4_linear.calls, "linear_decode_nvfp4", self.decode)
        monkeypatch.setattr(nvfp4_linear._custom_ops, "scaled_fp4_quant", self.quantize)
        monkeypatch.setattr(nvfp4_linear._custom_ops, "cutlass_scaled_fp4_mm", self.multiply)

    def decode(self, out: torch.Tensor, x: torch.Tensor, *held: Any) -> None:
        self.fetched.append(x)
        out.copy_(reference.linear_nvfp4(x, *held))

    def quantize(self, x: torch.Tensor, scale: torch.Tensor, swizzled: bool, backend: str) -> Any:
        """To E4M3's range by the scale and no further, saturating as E2M1 does."""
        assert x.is_contiguous()
        return (x.float() * scale).nan_to_num(nan=0.0).clamp(-2688, 2688), torch.empty(0)

    def multiply(self, x: Any, weight: Any, _: Any, weight_scale: Any, alpha: Any, dtype: Any) -> Any:
        one = torch.ones(())
        return (reference.linear_nvfp4(x, weight, weight_scale, one, None) * alpha).to(dtype)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def launched(x: torch.Tensor, held: Nvfp4Tensor) -> torch.Tensor:
    return on_gpu(x, held.weight, held.weight_scale, held.weight_scale_2, None, None)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_token_that_is_not_finite_spoils_no_other(calls: Calls, value: float) -> None:
    """All tokens of a call share its dynamic scale."""
    held, x = layer(drawn(ROWS, K)), drawn(MAX_TOKENS + 4, K, seed=1)
    exact = served(x, held)
    x[2, 7] = value
    others = [token for token in range(len(x)) if token != 2]
    torch.testing.assert_close(launched(x, held)[others], exact[others], rtol=2 * BF16, atol=1e-3)


def test_a_call_of_nothing_finite_has_a_scale() -> None:
    scale = nvfp4_linear._dynamic(torch.full((3, 4), float("nan")).bfloat16())
    assert 0 < scale < float("inf")


@pytest.mark.parametrize(
    ("gap", "offset", "copied"), [(0, 0, False), (8, 8, False), (4, 0, True), (0, 1, True)]
)
def test_the_kernel_gets_rows_that_it_can_fetch(calls: Calls, gap: int, offset: int, copied: bool) -> None:
    """16 bytes at a time; a row may lie apart from the next."""
    plain = drawn(3, K, seed=1)
    memory = torch.full((3 * (K + gap) + offset,), float("nan")).bfloat16()
    x = torch.as_strided(memory, (3, K), (K + gap, 1), offset)
    if memory.data_ptr() % 16:
        pytest.skip("PyTorch gave memory that is not aligned")
    x.copy_(plain)
    launched(x, layer(drawn(ROWS, K)))
    (fetched,) = calls.fetched
    assert torch.equal(fetched, plain)
    assert (fetched.data_ptr() != x.data_ptr()) is copied
    assert fetched.data_ptr() % 16 == 0


def test_no_tokens_call_nothing(calls: Calls) -> None:
    assert launched(torch.empty(0, K).bfloat16(), layer(drawn(ROWS, K))).shape == (0, ROWS)
    assert calls.fetched == []
