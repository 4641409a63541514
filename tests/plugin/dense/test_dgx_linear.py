"""`--linear-backend dgx` on a GB10: which kernel serves NVFP4 linear layers, and with what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from vllm import platforms
from vllm.config import KernelConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.kernels import linear
from vllm.model_executor.kernels.linear import CutlassNvFp4LinearKernel, init_nvfp4_linear_kernel
from vllm.platforms.interface import DeviceCapability

from dgx_vllm.formats.nvfp4 import quantize
from dgx_vllm.kernels import calls, reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.dense import common, nvfp4_linear
from dgx_vllm.plugin.dense.linear_backend import DecodeNvFp4LinearKernel, select

pytestmark = pytest.mark.usefixtures("plugin", "logged")


@pytest.fixture(autouse=True)
def as_built_for_a_gpu(gb10: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(nvfp4_linear, "cutlass_fp4_supported", lambda: True)
    common.decode_refusal.cache_clear()
    yield
    common.decode_refusal.cache_clear()


def of_gpu(monkeypatch: pytest.MonkeyPatch, *capability: int) -> None:
    monkeypatch.setattr(
        type(platforms.current_platform),
        "get_device_capability",
        classmethod(lambda cls, device_id=0: DeviceCapability(*capability)),
    )


def chosen(backend: str = "dgx", use_a16: bool = False) -> Any:
    with set_current_vllm_config(VllmConfig(kernel_config=KernelConfig(linear_backend=backend))):  # type: ignore[arg-type]
        return init_nvfp4_linear_kernel(use_a16)


@pytest.mark.parametrize("capability", [(12, 1), (9, 0)])
def test_it_is_found_by_its_entry_point(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    linear._nvfp4_plugins.cache_clear()
    of_gpu(monkeypatch, *capability)
    assert type(chosen()) is DecodeNvFp4LinearKernel
    assert logged == []


def test_without_being_asked_it_stays_out(logged: list[str]) -> None:
    assert type(chosen("auto")) is CutlassNvFp4LinearKernel
    assert logged == []


@pytest.mark.parametrize("capability", [(12, 0), (10, 0)])
def test_on_other_gpus_vllm_selects(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    of_gpu(monkeypatch, *capability)
    assert type(chosen()) is not DecodeNvFp4LinearKernel
    shown = "{}.{}".format(*capability)
    reason = f"its kernels are for compute capability 12.1 (9.0 to verify), not {shown}"
    assert logged == [f"linear_backend 'dgx' leaves NVFP4 layers to vLLM: {reason}"]


def test_without_its_library_vllm_selects(library: Path, logged: list[str]) -> None:
    library.unlink()
    assert type(chosen()) is CutlassNvFp4LinearKernel
    assert logged == [
        f"linear_backend 'dgx' leaves NVFP4 layers to vLLM: there is no kernel library {library}"
    ]


def test_weights_alone_in_fp4_are_not_for_it(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    from vllm.model_executor.kernels.linear import (
        FlashInferCuteDslNvFp4W4A16LinearKernel,
        MarlinNvFp4LinearKernel,
    )

    for kernel in (MarlinNvFp4LinearKernel, FlashInferCuteDslNvFp4W4A16LinearKernel):
        monkeypatch.setattr(kernel, "is_supported", classmethod(lambda *_: (True, None)))
    assert type(chosen("auto", use_a16=True)) is MarlinNvFp4LinearKernel
    assert logged == []
    assert type(chosen(use_a16=True)) is MarlinNvFp4LinearKernel
    assert logged == [
        "linear_backend 'dgx' leaves NVFP4 layers to vLLM: the checkpoint quantizes weights alone"
    ]


def test_half_precision_is_not_for_it(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    config = VllmConfig(kernel_config=KernelConfig(linear_backend="dgx"))  # type: ignore[arg-type]
    config.model_config = SimpleNamespace(dtype=torch.float16)  # type: ignore[assignment]
    with set_current_vllm_config(config):
        assert type(init_nvfp4_linear_kernel()) is CutlassNvFp4LinearKernel
    reason = "activations are torch.float16 and not torch.bfloat16"
    assert logged == [f"linear_backend 'dgx' leaves NVFP4 layers to vLLM: {reason}"]


def test_batch_invariance_is_vllms(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """And the log says so: nobody who set the flag is left to guess."""
    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert type(chosen()) is CutlassNvFp4LinearKernel
    assert logged == ["linear_backend 'dgx' leaves NVFP4 layers to vLLM: batch invariance"]


def test_on_a_cpu_it_is_the_reference(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    monkeypatch.setattr(platforms.current_platform, "is_cpu", lambda: True)
    assert select(use_a16=False) is None
    assert logged == []


def test_layers_of_other_formats_are_as_with_auto() -> None:
    for backend in ("dgx", "auto"):
        with set_current_vllm_config(VllmConfig(kernel_config=KernelConfig(linear_backend=backend))):  # type: ignore[arg-type]
            assert linear._get_linear_backend(quantization="mxfp6") == "auto"


def test_what_was_decided_is_in_the_key_of_compiled_graphs(library: Path) -> None:
    """A graph that calls the operator is not taken where the library is gone, and else it is."""

    def key() -> str:
        config = VllmConfig(kernel_config=KernelConfig(linear_backend="dgx"))  # type: ignore[arg-type]
        with set_current_vllm_config(config):
            init_nvfp4_linear_kernel()
            return config.compute_hash()

    there = key()
    assert key() == there
    library.unlink()
    common.decode_refusal.cache_clear()
    assert key() != there


ROWS, K = 192, 128


class Layer(torch.nn.Module):
    """What vLLM's methods for NVFP4 give to a kernel."""

    prefix = "model.layers.3.self_attn.o_proj"

    def __init__(self, rows: int = ROWS, k: int = K) -> None:
        super().__init__()
        held = quantize(torch.randn(rows, k, generator=torch.Generator().manual_seed(0)))
        self.output_size_per_partition, self.input_size_per_partition = rows, k
        for name, value in {
            "weight": held.weight,
            "weight_scale": held.weight_scale,
            "weight_global_scale": held.weight_scale_2,
            "input_global_scale_inv": torch.tensor(50.0),
            "alpha": held.weight_scale_2 / 50,
        }.items():
            setattr(self, name, torch.nn.Parameter(value, requires_grad=False))


def served(layer: Layer, tokens: int, bias: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """What the kernel makes of random x [tokens, k], and x."""
    x = torch.randn(tokens, K, generator=torch.Generator().manual_seed(tokens)).bfloat16()
    return chosen().apply_weights(layer, x, bias), x


@pytest.mark.parametrize("tokens", [1, MAX_TOKENS])
def test_a_few_tokens_are_not_quantized(tokens: int) -> None:
    layer = Layer()
    exact = reference.dequantize(
        reference.Nvfp4Tensor(layer.weight.data, layer.weight_scale.data, layer.weight_global_scale.data)
    )
    chosen().process_weights_after_loading(layer)
    bias = torch.linspace(-1, 1, ROWS).bfloat16()
    got, x = served(layer, tokens, bias)
    torch.testing.assert_close(got.float(), x.float() @ exact.T + bias.float(), rtol=2**-8, atol=1e-3)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a GPU, where the kernel and CUTLASS are the reference in their places; tokens of our launches."""
    sizes: list[int] = []

    def linear_decode(out: torch.Tensor, x: torch.Tensor, *held: Any) -> None:
        sizes.append(len(x))
        out.copy_(reference.linear_nvfp4(x, *held))

    monkeypatch.setattr(calls, "linear_decode_nvfp4", linear_decode)
    return sizes


def on_gpu(layer: Layer, x: torch.Tensor, input_scale: torch.Tensor | None) -> torch.Tensor:
    held = layer.weight, layer.weight_scale, layer.weight_global_scale
    return nvfp4_linear.on_gpu(x, *held, None, input_scale)


@pytest.mark.parametrize("calibrated", [True, False])
def test_more_tokens_are_vllms_on_the_same_weights(
    calibrated: bool, launched: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUTLASS's scale undoes that of the activations, from calibration or by the largest of the call."""
    layer = Layer()
    chosen().process_weights_after_loading(layer)
    x = torch.randn(MAX_TOKENS + 1, K, generator=torch.Generator().manual_seed(7)).bfloat16()
    seen: dict[str, torch.Tensor] = {}

    def quant(tokens: torch.Tensor, scale: torch.Tensor, swizzled: bool, backend: str) -> Any:
        assert (swizzled, backend) == (True, "cutlass")
        seen["scale"] = scale
        return tokens.float() * scale, torch.empty(0)

    def multiply(codes: torch.Tensor, weight: Any, _: Any, weight_scale: Any, alpha: Any, dtype: Any) -> Any:
        assert weight is layer.weight
        assert weight_scale is layer.weight_scale
        one = torch.ones(())
        return (reference.linear_nvfp4(codes, weight, weight_scale, one, None) * alpha).to(dtype)

    monkeypatch.setattr(nvfp4_linear._custom_ops, "scaled_fp4_quant", quant)
    monkeypatch.setattr(nvfp4_linear._custom_ops, "cutlass_scaled_fp4_mm", multiply)
    got = on_gpu(layer, x, layer.input_global_scale_inv if calibrated else None)
    held = layer.weight, layer.weight_scale, layer.weight_global_scale
    torch.testing.assert_close(got.float(), reference.linear_nvfp4(x, *held, None), rtol=2**-7, atol=1e-3)
    assert launched == []
    largest = x.float().abs().max()
    assert seen["scale"].item() == pytest.approx(50.0 if calibrated else 6 * 448 / largest.item())


def test_a_dynamic_scale_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (0.0, 1e-38, 3e38):
        scale = nvfp4_linear._dynamic(torch.full((2, 4), value).bfloat16())
        assert scale.isfinite()
        assert scale > 0


def test_on_hopper_the_kernel_takes_slices(launched: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    of_gpu(monkeypatch, 9, 0)
    layer = Layer()
    chosen().process_weights_after_loading(layer)
    x = torch.randn(2, 19, K, generator=torch.Generator().manual_seed(7)).bfloat16()
    got = on_gpu(layer, x, None)
    assert launched == [16, 16, 6]
    held = layer.weight, layer.weight_scale, layer.weight_global_scale
    expected = reference.linear_nvfp4(x.view(-1, K), *held, None).view(2, 19, ROWS)
    torch.testing.assert_close(got.float(), expected, rtol=2**-7, atol=1e-3)


def test_sizes_that_do_not_fit_are_cutlasss(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """It pads them, and the log says so; on Hopper, which has none, the load ends with a line of which."""
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        CutlassNvFp4LinearKernel, "apply_weights", lambda self, layer, x, bias: seen.append(tuple(x.shape))
    )
    layer = Layer(rows=160)
    chosen().process_weights_after_loading(layer)
    assert logged == [
        "linear_backend 'dgx' leaves model.layers.*.self_attn.o_proj to CUTLASS: its size 160 is not a "
        "multiple of 64"
    ]
    served(layer, 1)
    assert seen == [(1, K)]
    of_gpu(monkeypatch, 9, 0)
    with pytest.raises(ValueError, match=r"o_proj's size 160 is not a multiple of 64; leave the flag out"):
        chosen().process_weights_after_loading(Layer(rows=160))


def test_the_operator_says_what_it_returns() -> None:
    layer = Layer()
    chosen().process_weights_after_loading(layer)
    x = torch.zeros(2, 3, K, dtype=torch.bfloat16)
    scale = layer.weight_scale.data.view(torch.uint8)  # torch compares no float8
    arguments = (x, layer.weight.data, scale, layer.weight_global_scale.data, None, None)
    torch.library.opcheck(nvfp4_linear.linear_nvfp4, arguments)
