"""Random weights: of the right size in every format, and the same each time."""

import pytest
import torch

pytest.importorskip("vllm")

from dgx_vllm.bench_decode.random_weights import fill
from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize


def drawn(module: torch.nn.Module, name: str, *shape: int, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    tensor.view(torch.uint8).fill_(255)
    fill(module, name, tensor)
    return tensor


def nvfp4(rows: int, columns: int) -> torch.Tensor:
    module = torch.nn.Module()
    return dequantize(
        Nvfp4Tensor(
            drawn(module, "weight", rows, columns // 2, dtype=torch.uint8),
            drawn(module, "weight_scale", rows, columns // 16, dtype=torch.float8_e4m3fn),
            drawn(module, "weight_scale_2", 1, dtype=torch.float32)[0],
        )
    )


def test_outputs_are_of_their_inputs_size() -> None:
    x = torch.randn(8, 2048, generator=torch.Generator().manual_seed(0))
    weight = drawn(torch.nn.Module(), "weight", 256, 2048, dtype=torch.bfloat16).float()
    for each in (weight, nvfp4(256, 2048)):
        assert 0.5 < (x @ each.T).std() < 2


def test_random_weights_are_the_same_each_time() -> None:
    assert torch.equal(nvfp4(32, 64), nvfp4(32, 64))


def test_what_was_quantized_from_vllms_dummies_is_brought_to_size() -> None:
    """vLLM draws them from -0.001 to 0.001, and the scale is that of such a weight."""
    module = torch.nn.Module()
    module.input_size_per_partition = 48
    scale = torch.full((16, 1), 1e-3 / 448)
    fill(module, "weight_scale", scale)
    torch.testing.assert_close(scale * 448, torch.full((16, 1), (3 / 48) ** 0.5))


def test_norms_are_near_one() -> None:
    weight = drawn(torch.nn.Module(), "weight", 64, dtype=torch.bfloat16)
    assert weight.min() >= 0.5
    assert weight.max() <= 1
