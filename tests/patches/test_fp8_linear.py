"""On a GB10, FP8 linear layers take vLLM's CUTLASS kernels; test_dispatchers.py shows that they are there."""

import pytest
import torch

pytest.importorskip("vllm")

from vllm import _custom_ops
from vllm.model_executor.kernels import linear
from vllm.model_executor.kernels.linear import FP8ScaledMMLinearLayerConfig
from vllm.model_executor.kernels.linear.scaled_mm import cutlass
from vllm.model_executor.layers.quantization.utils import w8a8_utils
from vllm.model_executor.layers.quantization.utils.quant_utils import (
    QuantKey,
    kFp8Dynamic128Sym,
    kFp8DynamicTensorSym,
    kFp8Static128BlockSym,
    kFp8StaticTensorSym,
)


@pytest.fixture
def compiled_answers(on_gb10: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the CUDA wheel's extension says of 12.1; the CPU build has no such functions."""
    supports = {121: True}.__getitem__
    for function in ("cutlass_scaled_mm_supports_fp8", "cutlass_scaled_mm_supports_block_fp8"):
        monkeypatch.setattr(_custom_ops, function, supports)
    # A constant that vLLM computes on import.
    monkeypatch.setattr(cutlass, "CUTLASS_BLOCK_FP8_SUPPORTED", w8a8_utils.cutlass_block_fp8_supported())


PER_TENSOR = linear._POSSIBLE_FP8_KERNELS, "fp8_w8a8", cutlass.CutlassFP8ScaledMMLinearKernel
IN_BLOCKS = linear._POSSIBLE_FP8_BLOCK_KERNELS, "fp8_block_w8a8", cutlass.CutlassFp8BlockScaledMMKernel


@pytest.mark.usefixtures("compiled_answers")
@pytest.mark.parametrize(
    ("activations", "weights", "choice"),
    [
        (kFp8StaticTensorSym, kFp8StaticTensorSym, PER_TENSOR),
        (kFp8DynamicTensorSym, kFp8StaticTensorSym, PER_TENSOR),
        (kFp8Dynamic128Sym, kFp8Static128BlockSym, IN_BLOCKS),
    ],
    ids=["per-tensor, static", "per-tensor, dynamic", "in blocks"],
)
def test_fp8_takes_cutlass_on_gb10(
    activations: QuantKey, weights: QuantKey, choice: tuple[dict, str, type]
) -> None:
    """FlashInfer's kernels, which rank before, are not in the CPU closure."""
    table, quantization, expected = choice
    config = FP8ScaledMMLinearLayerConfig(
        weight_quant_key=weights,
        activation_quant_key=activations,
        input_dtype=torch.bfloat16,
        out_dtype=torch.bfloat16,
        weight_shape=(2048, 2048),
    )
    assert linear.choose_scaled_mm_linear_kernel(config, table, quantization=quantization) is expected
