"""`--dense-dtype fp8`: E4M3 with a scale for each output."""

from typing import ClassVar

import torch
from torch.nn import Module
from vllm.model_executor.utils import replace_parameter

from dgx_vllm.formats import fp8
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.dense import fp8_linear
from dgx_vllm.plugin.dense.common import decode_refusal
from dgx_vllm.plugin.dense.method import DenseMethod
from dgx_vllm.plugin.fallback import fallback_text


class Fp8Method(DenseMethod):
    """Multiplies by `linear_fp8`."""

    dtype: ClassVar[Dtype] = "fp8"
    multiple = 16

    @staticmethod
    def refusal() -> str | None:
        """Why the device cannot serve it, None if it can."""
        return fp8_linear.refusal()

    @staticmethod
    def described() -> str:
        """What it is, for the log."""
        reason = decode_refusal()
        if reason is not None:
            return f"E4M3 with a scale for each output; linear_decode is not used, {reason}"
        kernels = f"linear_decode for 1 to {MAX_TOKENS} tokens, {fallback_text(sliced=False)}"
        return f"E4M3 with a scale for each output; {kernels}"

    def converted(self, weight: torch.Tensor) -> bool:
        """Whether a layer's `weight` is quantized."""
        return weight.dtype == torch.float8_e4m3fn

    def room(self, weight: torch.Tensor) -> int:
        """Bytes that `convert` needs in addition to the weight in BF16."""
        return fp8.room(weight)

    def convert(self, layer: Module, weight: torch.Tensor) -> bool:
        """Replace `weight` [rows, k] by its FP8 codes and add `weight_scale` [rows, 1]."""
        quantized = fp8.quantize(weight)
        if not quantized.scale.isfinite().all():
            return False
        replace_parameter(layer, "weight", quantized.weight)
        replace_parameter(layer, "weight_scale", quantized.scale)
        return True

    def apply(self, layer: Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x bfloat16 [..., k] times the weight, plus bias [rows]: [..., rows]."""
        return fp8_linear.linear_fp8(x, layer.weight, layer.weight_scale, bias)
