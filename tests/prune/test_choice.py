"""What is kept, against all choices; estimates, against sampling; compensation, against doing nothing."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_reference import best_choice, values, zeros_fit

from dgx_vllm.evaluation.norm_scales import norm_rms
from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, quantize
from dgx_vllm.formats.nvfp4.sparsity_pattern import PAIRS, TWO_OF_FOUR, Pattern
from dgx_vllm.prune import experts, input_estimates
from dgx_vllm.prune.compensation import compensate, spreading
from dgx_vllm.prune.experts import Experts, Samples

BOTH = pytest.mark.parametrize("pattern", [TWO_OF_FOUR, PAIRS], ids=lambda pattern: pattern.name)
SILU = torch.nn.functional.silu


def reference(tensor: Nvfp4Tensor, row: int) -> np.ndarray:
    """One matrix of a stack, as the layout means it."""
    scale = tensor.weight_scale[row].view(torch.uint8).numpy().view("V1")
    return values(
        tensor.weight[row].numpy(), scale.view(ml_dtypes.float8_e4m3fn), tensor.weight_scale_2[row].numpy()
    )


def drawn(seed: int, hidden: int = 64, inner: int = 32) -> Experts:
    """Two experts."""
    g = torch.Generator().manual_seed(seed)
    gate, up = (quantize(torch.randn(2, inner, hidden, generator=g) / hidden**0.5) for _ in range(2))
    return Experts(gate, up, quantize(torch.randn(2, hidden, inner, generator=g) / inner**0.5), SILU)


@BOTH
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_choice_is_the_best_of_all(pattern: Pattern, seed: int) -> None:
    # Few distinct costs, so that many are equal.
    cost = np.random.default_rng(seed).integers(0, 5, (1, 32)).astype(np.float32)
    keep = pattern.keep(torch.from_numpy(cost)).numpy()
    assert keep.reshape(-1, 4, pattern.run).all(axis=-1).sum(axis=-1).tolist() == [2] * (8 // pattern.run)
    assert (cost * keep).sum() == best_choice(cost[0], pattern.run)


def test_of_equal_ones_the_first_stay() -> None:
    assert TWO_OF_FOUR.keep(torch.ones(1, 4)).tolist() == [[True, True, False, False]]
    with pytest.raises(ValueError, match="multiple of 8"):
        PAIRS.keep(torch.ones(1, 12))


@BOTH
def test_magnitude_keeps_values_to_the_bit(pattern: Pattern) -> None:
    before = drawn(0)
    after = experts.by_magnitude(before, pattern)
    for old, new in zip(before.matrices, after.matrices, strict=True):
        for expert in range(2):
            was, now = reference(old, expert), reference(new, expert)
            assert all(zeros_fit(row, pattern.run) for row in now)
            kept = now != 0
            np.testing.assert_array_equal(now[kept], was[kept])
            wanted = sum(best_choice(row**2, pattern.run) for row in was)
            assert (now**2).sum() == pytest.approx(wanted, rel=1e-6)


@BOTH
def test_rms_weighs_the_choice(pattern: Pattern) -> None:
    before = drawn(1)
    rms = torch.rand(64, generator=torch.Generator().manual_seed(2)) * 3
    after = experts.by_rms(before, rms, pattern)
    for expert in range(2):
        was, now = reference(before.up, expert), reference(after.up, expert)
        wanted = sum(best_choice((row * rms.numpy()) ** 2, pattern.run) for row in was)
        assert ((now * rms.numpy()) ** 2).sum() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("gated", [True, False])
def test_the_inner_rms_is_what_sampling_gives(gated: bool) -> None:
    g = torch.Generator().manual_seed(3)
    gate, up = (torch.randn(8, 32, generator=g) / 4 for _ in range(2))
    up = up + gate  # so that they are correlated
    rms = torch.rand(32, generator=g) + 0.2
    x = torch.randn(400_000, 32, generator=g) * rms
    h = SILU(x @ gate.T) * (x @ up.T) if gated else SILU(x @ up.T)
    got = input_estimates.inner_rms(gate if gated else None, up, rms, SILU)
    torch.testing.assert_close(got, h.pow(2).mean(0).sqrt(), rtol=0.02, atol=0)


def test_norms_by_model() -> None:
    weight = torch.tensor([-0.25, 0.5])
    assert norm_rms(weight, "qwen3_next").tolist() == [0.75, 1.5]
    assert norm_rms(weight, "qwen3_moe").tolist() == [0.25, 0.5]
    assert "model.layers.3.post_attention_layernorm.weight" in input_estimates.norm_names(
        "model.layers.3.mlp.experts"
    )


def correlated(tokens: int, seed: int) -> torch.Tensor:
    """Inputs of 64 channels that mostly move together."""
    g = torch.Generator().manual_seed(7)
    mixing = torch.randn(8, 64, generator=g)
    g = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 8, generator=g) @ mixing + 0.3 * torch.randn(tokens, 64, generator=g)


@BOTH
def test_compensation_pays_on_inputs_that_it_has_not_seen(pattern: Pattern) -> None:
    before = drawn(4)
    x, other = correlated(512, 1), correlated(512, 2)
    samples = Samples(x, torch.ones(2, 512, dtype=torch.bool), spreading(x.T @ x / 512))
    wanted = before(other)

    def error(after: Experts) -> float:
        return float((after(other) - wanted).norm() / wanted.norm())

    compensated = experts.by_samples(before, samples, pattern)
    plain = experts.by_rms(before, x.pow(2).mean(0).sqrt(), pattern)
    assert error(compensated) < 0.75 * error(plain)
    for tensor in compensated.matrices:
        for expert in range(2):
            assert all(zeros_fit(row, pattern.run) for row in reference(tensor, expert))


def test_matrices_are_compensated_one_by_one() -> None:
    g = torch.Generator().manual_seed(5)
    w = torch.randn(2, 16, 32, generator=g)
    x = torch.randn(2, 100, 32, generator=g)
    factors = spreading(x.mT @ x / 100)
    scales = torch.tensor([0.001, 0.002])
    both = compensate(w, scales, factors, TWO_OF_FOUR)
    for i in range(2):
        one = compensate(w[i], scales[i], factors[i], TWO_OF_FOUR)
        np.testing.assert_allclose(dequantize(one).numpy(), reference(both, i), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("x", [torch.zeros(4, 32), torch.ones(1, 32), torch.full((4, 32), 1e-20)])
def test_inputs_without_information_do_no_harm(x: torch.Tensor) -> None:
    w = torch.randn(4, 32, generator=torch.Generator().manual_seed(6))
    after = compensate(w, torch.tensor(0.001), spreading(x.T @ x / x.shape[0]), TWO_OF_FOUR)
    assert torch.isfinite(dequantize(after)).all()


def test_zero_matrices_stay_zero() -> None:
    after = compensate(torch.zeros(4, 32), torch.tensor(1.0), spreading(torch.eye(32)), TWO_OF_FOUR)
    assert not dequantize(after).any()
