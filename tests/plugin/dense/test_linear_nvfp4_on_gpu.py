"""`linear_nvfp4` and `--dense-dtype nvfp4` on a GPU that the kernels are for."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("vllm")

from dgx_vllm.formats.nvfp4 import by_rows
from dgx_vllm.kernels import reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.dense import nvfp4_linear
from dgx_vllm.plugin.dense.nvfp4_linear import linear_nvfp4

pytestmark = pytest.mark.gpu

ROWS, K = 1152, 2048
#: Relative L2 against float64: our kernel's own bound, and what FP4 leaves of activations.
DECODE_BOUND, FP4_BOUND = 4e-3, 0.15


@pytest.fixture(autouse=True)
def served() -> None:
    reason = nvfp4_linear.refusal()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def held() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(ROWS, K, device="cuda", generator=generator).bfloat16()
    quantized = by_rows.quantize(weight)
    assert quantized is not None
    return quantized.weight, quantized.weight_scale, quantized.weight_scale_2


def draw(tokens: int) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(tokens)
    return torch.randn(tokens, K, device="cuda", generator=generator).bfloat16()


def apart(got: torch.Tensor, x: torch.Tensor, held: tuple[torch.Tensor, ...]) -> float:
    wanted = x.double() @ reference.weight(*held).double().T
    return float((got.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("tokens", [1, 3, MAX_TOKENS, MAX_TOKENS + 1, 100])
def test_linear_nvfp4_is_the_product(tokens: int, held: tuple[torch.Tensor, ...]) -> None:
    x = draw(tokens)
    exact = tokens <= MAX_TOKENS or nvfp4_linear.slices()
    got = linear_nvfp4(x, *held, None, None)
    assert got.isfinite().all()
    assert apart(got, x, held) < (DECODE_BOUND if exact else FP4_BOUND)


def test_zeros_give_zeros(held: tuple[torch.Tensor, ...]) -> None:
    x = torch.zeros(MAX_TOKENS + 1, K, dtype=torch.bfloat16, device="cuda")
    assert (linear_nvfp4(x, *held, None, None) == 0).all()


def test_a_bias_is_added(held: tuple[torch.Tensor, ...]) -> None:
    x, bias = draw(2), torch.linspace(-8, 8, ROWS, device="cuda").bfloat16()
    difference = linear_nvfp4(x, *held, bias, None).float() - linear_nvfp4(x, *held, None, None).float()
    torch.testing.assert_close(difference, bias.float().expand(2, -1), rtol=0, atol=1)


@pytest.mark.parametrize("tokens", [2, MAX_TOKENS + 1])
def test_a_cuda_graph_replays_linear_nvfp4(tokens: int, held: tuple[torch.Tensor, ...]) -> None:
    x = draw(tokens)
    expected = linear_nvfp4(x, *held, None, None)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = linear_nvfp4(x, *held, None, None)
    for _ in range(3):
        out.zero_()
        graph.replay()
        assert torch.equal(out, expected)


def test_the_gpu_quantizes_as_the_cpu_does() -> None:
    """Codes and scales within what the last bit of a division may change."""
    weight = torch.randn(300, 512, generator=torch.Generator().manual_seed(2)).bfloat16()
    here, there = by_rows.quantize(weight), by_rows.quantize(weight.cuda())
    assert here is not None
    assert there is not None
    torch.testing.assert_close(there.weight_scale_2.cpu(), here.weight_scale_2, rtol=2**-22, atol=0)
    for name in ("weight", "weight_scale"):
        ours, theirs = (getattr(each, name).cpu().view(torch.uint8) for each in (here, there))
        assert (ours != theirs).float().mean() < 1e-3, name
