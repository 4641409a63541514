"""`--dense-dtype nvfp4`: E2M1 with an E4M3 scale for 16 values and a float32 one for the matrix."""

from typing import ClassVar

import torch
from torch.nn import Module
from vllm.model_executor.utils import replace_parameter

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.formats.nvfp4 import by_rows
from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_TOKENS
from dgx_vllm.plugin.dense import nvfp4_linear
from dgx_vllm.plugin.dense.method import DenseMethod
from dgx_vllm.plugin.fallback import fallback_text


class Nvfp4Method(DenseMethod):
    """Multiplies by `linear_nvfp4`; a call's own largest activation scales what CUTLASS is given."""

    dtype: ClassVar[Dtype] = "nvfp4"
    multiple = DIM_MULTIPLE

    @staticmethod
    def refusal() -> str | None:
        """Why the device cannot serve it, None if it can."""
        return nvfp4_linear.refusal()

    @staticmethod
    def described() -> str:
        """What it is, for the log."""
        return f"linear_decode for 1 to {MAX_TOKENS} tokens, {fallback_text(nvfp4_linear.slices())}"

    def converted(self, weight: torch.Tensor) -> bool:
        """Whether a layer's `weight` is quantized."""
        return weight.dtype == torch.uint8

    def room(self, weight: torch.Tensor) -> int:
        """Bytes that `convert` needs in addition to the weight in BF16."""
        return by_rows.room(weight)

    def convert(self, layer: Module, weight: torch.Tensor) -> bool:
        """Replace `weight` [rows, k] by packed codes; add swizzled block scales and the global one."""
        quantized = by_rows.quantize(weight)
        if quantized is None:
            return False
        replace_parameter(layer, "weight", quantized.weight)
        replace_parameter(layer, "weight_scale", quantized.weight_scale)
        replace_parameter(layer, "weight_global_scale", quantized.weight_scale_2)
        return True

    def apply(self, layer: Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x bfloat16 [..., k] times the weight, plus bias [rows]: [..., rows]."""
        tensors = layer.weight, layer.weight_scale, layer.weight_global_scale
        return nvfp4_linear.linear_nvfp4(x, *tensors, bias, None)
