"""The operator `linear_fp8` and the loading of its layers on a GPU, with vLLM's CUDA build.

DGX_VLLM_KERNELS_LIBRARY names the kernels' library where it is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.linear import ColumnParallelLinear

from dgx_vllm import plugin
from dgx_vllm.formats import dense_dtype, fp8
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.dense import fp8_linear
from dgx_vllm.plugin.dense.fp8_linear import linear_fp8
from dgx_vllm.plugin.dense.fp8_method import Fp8Method

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# in_proj_qkvz, qkv_proj, out_proj and lm_head of Qwen3-Next-80B; sizes that fill no tile.
SHAPES = [(12288, 2048), (9216, 2048), (2048, 4096), (151936, 2048), (48, 80)]


@pytest.fixture(autouse=True)
def with_the_kernel() -> None:
    reason = fp8_linear.decode_refusal() or fp8_linear.refusal()
    if reason:
        pytest.skip(reason)


def layer(rows: int, k: int, bias: bool = True) -> tuple[Any, ...]:
    torch.manual_seed(rows + k)
    quantized = fp8.quantize(torch.randn(rows, k, device="cuda").bfloat16())
    return quantized.weight, quantized.scale, torch.randn(rows, device="cuda").bfloat16() if bias else None


def activations(tokens: int, k: int) -> Any:
    torch.manual_seed(tokens)
    return torch.randn(tokens, k, device="cuda").bfloat16()


def expected(x: Any, weight: Any, scale: Any, bias: Any) -> Any:
    """In float64, some rows at a time."""
    parts = zip(weight.split(8192), scale.split(8192), strict=True)
    out = torch.cat([x.double() @ (codes.double() * scales.double()).T for codes, scales in parts], dim=1)
    return out if bias is None else out + bias.double()


def quantized(x: Any) -> Any:
    """Each token in E4M3 with its largest magnitude at 448, as CUTLASS's path multiplies it."""
    scale = x.double().abs().amax(dim=1, keepdim=True) / 448
    return (x.double() / scale).float().to(torch.float8_e4m3fn).double() * scale


def error(out: Any, exact: Any) -> float:
    return float((out.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 9, MAX_TOKENS])
@pytest.mark.parametrize(("rows", "k"), SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_few_tokens_are_multiplied_as_they_are(tokens: int, rows: int, k: int, bias: bool) -> None:
    held, x = layer(rows, k, bias), activations(tokens, k)
    assert error(linear_fp8(x, *held), expected(x, *held)) < 3e-3


@pytest.mark.parametrize("tokens", [MAX_TOKENS + 1, 64, 300, 1000])
@pytest.mark.parametrize(("rows", "k"), SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_more_are_quantized_and_multiplied_by_the_same_weights(
    tokens: int, rows: int, k: int, bias: bool
) -> None:
    held, x = layer(rows, k, bias), activations(tokens, k)
    out = linear_fp8(x, *held)
    # vLLM may round a value that lies in the middle to the other side.
    assert error(out, expected(quantized(x), *held)) < 6e-3
    assert error(out, expected(x, *held)) < 0.04


@pytest.mark.parametrize("tokens", [1, 5, MAX_TOKENS])
def test_without_our_kernel_vllms_takes_few_tokens_too(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8_linear, "decode_refusal", lambda: "why")
    held, x = layer(12288, 2048), activations(tokens, 2048)
    assert error(linear_fp8(x, *held), expected(quantized(x), *held)) < 6e-3


@pytest.mark.parametrize("tokens", [1, 8, MAX_TOKENS, MAX_TOKENS + 1, 256])
def test_a_cuda_graph_replays_linear_fp8(tokens: int) -> None:
    held = layer(12288, 2048)
    x = activations(tokens, 2048)
    linear_fp8(x, *held)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = linear_fp8(x, *held)
    for seed in range(20):
        torch.manual_seed(seed)
        x.copy_(torch.randn_like(x))
        out.fill_(float("nan"))
        graph.replay()
        assert torch.equal(out, linear_fp8(x, *held))


def test_compiled_it_is_the_same() -> None:
    held = layer(2048, 4096)

    def surrounded(x: Any) -> Any:
        return torch.relu(linear_fp8(x * 2, *held)) + 1

    compiled = torch.compile(surrounded, fullgraph=True, dynamic=True)
    for tokens in (2, MAX_TOKENS, MAX_TOKENS + 1, 100):
        x = activations(tokens, 4096)
        torch.testing.assert_close(compiled(x), surrounded(x), rtol=2**-7, atol=1e-2)


def test_rows_that_the_kernel_cannot_fetch() -> None:
    held = layer(2048, 4096)
    x = torch.randn(3, 4099, device="cuda").bfloat16()[:, 1:4097]
    assert error(linear_fp8(x, *held), expected(x, *held)) < 3e-3
    assert linear_fp8(x[:0], *held).shape == (0, 2048)


def test_the_gpu_quantizes_as_the_cpu_does() -> None:
    weight = torch.randn(512, 2048).bfloat16()
    here, there = fp8.quantize(weight), fp8.quantize(weight.cuda())
    same = (here.scale == there.scale.cpu()).flatten()
    assert same.double().mean() > 0.99  # two scales may leave the same error, but for its rounding
    assert torch.equal(here.weight[same].view(torch.uint8), there.weight.cpu()[same].view(torch.uint8))


@pytest.fixture(scope="module")
def asked(process_group: None) -> Iterator[None]:
    plugin.register()
    with set_current_vllm_config(VllmConfig(additional_config=dense_dtype.additional_config("fp8") or {})):
        yield


@pytest.mark.usefixtures("asked")
def test_loading_takes_one_layer_twice_at_most() -> None:
    rows, k, count = 4096, 4096, 6
    weights = [torch.randn(rows, k).bfloat16() for _ in range(count)]
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        layers: list[Any] = [
            ColumnParallelLinear(
                k, rows, bias=False, params_dtype=torch.bfloat16, prefix=f"model.layers.{i}.mlp.up_proj"
            )
            for i in range(count)
        ]
        for each, weight in zip(layers, weights, strict=True):
            assert isinstance(each.quant_method, Fp8Method)
            each.weight.weight_loader(each.weight, weight)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak <= count * rows * (k + 4) + 2 * rows * k + fp8.room(weights[0]) + 2**20
    x = activations(4, k)
    held = layers[0].weight, layers[0].weight_scale, None
    out, _ = layers[0](x)
    assert error(out, expected(x, *held)) < 3e-3
    assert error(out, x.double() @ weights[0].cuda().double().T) < 0.03
