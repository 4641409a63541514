"""The emulated NVFP4 layer reads a checkpoint's scales as they are stored, and multiplies by them once."""

import ml_dtypes
import numpy as np
import pytest
import torch

pytest.importorskip("vllm")

from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.kernels import linear
from vllm.model_executor.kernels.linear.nvfp4.emulation import EmulationNvFp4LinearKernel
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)
from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config
from vllm.platforms import PlatformEnum

pytestmark = pytest.mark.usefixtures("process_group")

# More rows than one 128x4 tile of the swizzled layout, which would put other scales in their places.
ROWS, COLUMNS, BLOCK = 256, 128, 16
# A power of two, so that nothing is rounded; far from 1, where a reciprocal taken twice would not show.
GLOBAL_SCALE = 2.0**-6

NVFP4_ARGUMENTS = {
    "num_bits": 4,
    "type": "float",
    "strategy": "tensor_group",
    "group_size": BLOCK,
    "symmetric": True,
}
COMPRESSED_TENSORS = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "quantization_status": "compressed",
    "ignore": [],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "format": "nvfp4-pack-quantized",
            "weights": {**NVFP4_ARGUMENTS, "dynamic": False},
            "input_activations": {**NVFP4_ARGUMENTS, "dynamic": "local"},
        }
    },
}
MODELOPT = {
    "producer": {"name": "modelopt"},
    "quantization": {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": None,
        "group_size": BLOCK,
        "exclude_modules": [],
    },
}


def layer_of(quantization: QuantizationConfig, monkeypatch: pytest.MonkeyPatch) -> ReplicatedLinear:
    monkeypatch.setitem(linear._POSSIBLE_NVFP4_KERNELS, PlatformEnum.CPU, [EmulationNvFp4LinearKernel])
    # The packing of qkv_proj and the like, which a model's class brings.
    quantization.packed_modules_mapping = {}
    with set_current_vllm_config(VllmConfig()):
        return ReplicatedLinear(
            COLUMNS,
            ROWS,
            bias=False,
            params_dtype=torch.float32,
            quant_config=quantization,
            prefix="model.layers.0.mlp.down_proj",
        )


@pytest.mark.parametrize("source", ["compressed-tensors", "ModelOpt"])
def test_emulation_reads_linear_scales_and_divides_by_no_scale_twice(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (ROWS, COLUMNS), dtype=np.uint8)
    scales = random.choice([0.25, 0.5, 1, 2, 4, 8], (ROWS, COLUMNS // BLOCK)).astype(ml_dtypes.float8_e4m3fn)
    stored = {
        "weight": torch.from_numpy(codes[:, ::2] | codes[:, 1::2] << 4),
        "weight_scale": torch.from_numpy(scales.view(np.uint8)).view(torch.float8_e4m3fn),
    }
    one = torch.ones(1)
    if source == "ModelOpt":
        quantization: QuantizationConfig = ModelOptNvFp4Config.from_config(MODELOPT)
        stored |= {"weight_scale_2": one * GLOBAL_SCALE, "input_scale": one}
    else:
        # compressed-tensors stores divisors.
        quantization = CompressedTensorsConfig.from_config(COMPRESSED_TENSORS)
        stored["weight_packed"] = stored.pop("weight")
        stored |= {"weight_global_scale": one / GLOBAL_SCALE, "input_global_scale": one}

    layer = layer_of(quantization, monkeypatch)
    parameters = dict(layer.named_parameters())
    assert parameters.keys() == stored.keys()
    for name, tensor in stored.items():
        assert parameters[name].shape == tensor.shape
        parameters[name].data.copy_(tensor)
    layer.quant_method.process_weights_after_loading(layer)

    # Rows with a single 6, E2M1's largest: the activations' own quantization leaves them as they are.
    out, _ = layer(6 * torch.eye(COLUMNS))
    weights = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    weights *= np.repeat(scales.astype(np.float32), BLOCK, axis=1) * GLOBAL_SCALE
    np.testing.assert_array_equal(out.numpy(), 6 * weights.T)
