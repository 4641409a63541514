"""The plugin's layers on their own: they hold exactly the weights that the checkpoint stands for."""

import ml_dtypes
import numpy as np
import pytest
import torch

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, quantize
from helpers.nvfp4_layout import reference_values

pytest.importorskip("vllm")


def reference_bfloat16(tensor: Nvfp4Tensor) -> np.ndarray:
    """The layout's meaning in numpy, rounded to bfloat16."""
    return reference_values(tensor).astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.fixture
def on_cpu() -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("vLLM's CPU build only")


def random_matrix(seed: int, rows: int, columns: int) -> Nvfp4Tensor:
    return quantize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.usefixtures("on_cpu")
def test_a_linear_layer_multiplies_by_the_dequantized_weight() -> None:
    from vllm.model_executor.kernels.linear import NvFp4LinearLayerConfig

    from dgx_vllm.plugin.cpu.linear import CpuNvFp4LinearKernel

    tensor = random_matrix(0, 64, 128)
    layer = torch.nn.Module()
    layer.params_dtype = torch.bfloat16
    bias = torch.arange(64, dtype=torch.bfloat16)
    # The layer's own: vLLM turns it into float32 where the multiplication on this CPU wants that.
    layer.bias = torch.nn.Parameter(bias.clone(), requires_grad=False)
    layer.weight = torch.nn.Parameter(tensor.weight, requires_grad=False)
    layer.weight_scale = torch.nn.Parameter(tensor.weight_scale, requires_grad=False)
    layer.weight_global_scale = torch.nn.Parameter(tensor.weight_scale_2, requires_grad=False)
    kernel = CpuNvFp4LinearKernel(NvFp4LinearLayerConfig())
    kernel.process_weights_after_loading(layer)
    # The identity reads the weight back, whatever layout the multiplication keeps it in.
    out = kernel.apply_weights(layer, torch.eye(128, dtype=torch.bfloat16))
    np.testing.assert_array_equal(out.T.float().numpy(), reference_bfloat16(tensor))
    zero = torch.zeros(1, 128, dtype=torch.bfloat16)
    assert torch.equal(kernel.apply_weights(layer, zero, layer.bias)[0], bias)


@pytest.mark.usefixtures("on_cpu")
def test_experts_with_scales_of_their_own_for_gate_and_up() -> None:
    from dgx_vllm.plugin.cpu.moe import _dequantize_experts

    gate, up = (
        [random_matrix(1, 32, 64), random_matrix(2, 32, 64)],
        [
            quantize(torch.full((32, 64), 7.0)),
            random_matrix(3, 32, 64),
        ],
    )
    pairs = list(zip(gate, up, strict=True))
    stacked = Nvfp4Tensor(
        torch.stack([torch.cat((g.weight, u.weight)) for g, u in pairs]),
        torch.stack([torch.cat((g.weight_scale, u.weight_scale)) for g, u in pairs]),
        torch.stack([torch.stack((g.weight_scale_2, u.weight_scale_2)) for g, u in pairs]).repeat_interleave(
            32, dim=1
        ),
    )
    got = _dequantize_experts(stacked, torch.bfloat16).float().numpy()
    for expert, (g, u) in enumerate(pairs):
        expected = np.concatenate((reference_bfloat16(g), reference_bfloat16(u)))
        np.testing.assert_array_equal(got[expert], expected)


@pytest.mark.usefixtures("on_cpu")
def test_registering_twice_registers_once() -> None:
    from vllm.model_executor.kernels.linear import _POSSIBLE_NVFP4_KERNELS
    from vllm.model_executor.layers.quantization import get_quantization_config
    from vllm.platforms import PlatformEnum

    from dgx_vllm.plugin import register
    from dgx_vllm.plugin.cpu.linear import CpuNvFp4LinearKernel
    from dgx_vllm.plugin.cpu.moe import CpuModelOptNvFp4Config

    register()
    register()
    assert _POSSIBLE_NVFP4_KERNELS[PlatformEnum.CPU].count(CpuNvFp4LinearKernel) == 1
    assert get_quantization_config("modelopt_fp4") is CpuModelOptNvFp4Config


def test_on_another_platform_nothing_of_the_cpus_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from vllm import platforms

    from dgx_vllm.plugin import register as entry
    from dgx_vllm.plugin.dense import dense_layers
    from dgx_vllm.plugin.draft_experts import offer
    from dgx_vllm.plugin.moe import runner
    from dgx_vllm.plugin.register import register

    module = sys.modules[register.__module__]
    assert entry is register
    monkeypatch.setattr(module, "_registered", False)
    monkeypatch.setattr(platforms.current_platform, "is_cpu", lambda: False, raising=False)
    registered: list[str] = []
    for made in (dense_layers, runner, offer):
        monkeypatch.setattr(made, "register", lambda name=made.__name__: registered.append(name))
    for name in ("cpu.linear", "cpu.moe"):
        monkeypatch.delitem(sys.modules, f"dgx_vllm.plugin.{name}", raising=False)
    register()
    register()
    assert not {"dgx_vllm.plugin.cpu.linear", "dgx_vllm.plugin.cpu.moe"} & set(sys.modules)
    names = ("dense.dense_layers", "draft_experts.offer", "moe.runner")
    assert sorted(registered) == [f"dgx_vllm.plugin.{name}" for name in names]


def test_what_quantizes_is_imported_where_it_is_asked_for() -> None:
    """vLLM loads the plugin in every process, the API server's among them."""
    import subprocess
    import sys

    code = (
        "import sys, dgx_vllm.plugin as p; p.register(); print('dgx_vllm.plugin.dense.method' in sys.modules)"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": "/nonexistent"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[-1] == "False"


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("stored", "meant"),
    [([0.5, 2.0], [0.5, 2.0]), ([0.5, torch.finfo(torch.float32).min], [0.5, 0.5])],
    ids=["fused by vLLM", "fused in the checkpoint"],
)
def test_a_fused_fp8_layer_multiplies_by_each_matrix_with_its_scale(
    stored: list[float], meant: list[float]
) -> None:
    from vllm.model_executor.layers.quantization.modelopt import ModelOptFp8Config

    from dgx_vllm.plugin.cpu.mixed import CpuModelOptFp8LinearMethod

    config = ModelOptFp8Config("FP8", True, None, [])
    method = CpuModelOptFp8LinearMethod(config, "model.layers.0.linear_attn.in_proj_qkvz")
    method.out_dtype = torch.bfloat16
    codes = torch.arange(-32, 32, dtype=torch.float32).repeat(48, 1).to(torch.float8_e4m3fn)
    layer = torch.nn.Module()
    layer.logical_widths = [32, 16]
    layer.bias = None
    layer.weight = torch.nn.Parameter(codes, requires_grad=False)
    layer.weight_scale = torch.nn.Parameter(torch.tensor(stored), requires_grad=False)
    layer.input_scale = torch.nn.Parameter(torch.tensor([1.0, 1.0]), requires_grad=False)
    method.process_weights_after_loading(layer)
    out = method.apply(layer, torch.eye(64, dtype=torch.bfloat16)).T.float().numpy()
    # Powers of two: nothing is rounded but the codes themselves.
    values = codes.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    np.testing.assert_array_equal(out[:32], values[:32] * meant[0])
    np.testing.assert_array_equal(out[32:], values[32:] * meant[1])
