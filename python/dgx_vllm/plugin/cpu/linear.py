"""NVFP4 linear layers on the CPU."""

from typing import cast

import torch
from vllm.model_executor.kernels.linear import NvFp4LinearKernel, NvFp4LinearLayerConfig
from vllm.model_executor.layers.utils import cpu_unquantized_gemm, dispatch_cpu_unquantized_gemm
from vllm.platforms import current_platform

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize


class CpuNvFp4LinearKernel(NvFp4LinearKernel):
    """Dequantizes the weight after loading, then multiplies as an unquantized layer does."""

    @classmethod
    def is_supported(cls, compute_capability: int | None = None) -> tuple[bool, str | None]:
        """Only on vLLM's CPU platform."""
        if current_platform.is_cpu():
            return True, None
        return False, "it serves vLLM's CPU backend only"

    @classmethod
    def can_implement(cls, config: NvFp4LinearLayerConfig) -> tuple[bool, str | None]:
        """Every NVFP4 layer: all share one layout."""
        return True, None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Replace the packed weight uint8 [out, in / 2] and its scales by one matrix [out, in].

        The matrix has the layer's compute dtype. Layers that vLLM fuses (gate_up_proj) arrive with one global
        scale for all their parts, the largest.
        """
        parameters = dict(layer.named_parameters(recurse=False))
        names = ("weight", "weight_scale", "weight_global_scale")
        quantized = Nvfp4Tensor(*(parameters[name].data for name in names))
        weight = dequantize(quantized, dtype=cast(torch.dtype, layer.params_dtype))
        for name in ("weight", "weight_scale"):
            delattr(layer, name)
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)

    def apply_weights(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x [..., in] times the dequantized weight, plus bias [out]: [..., out] in x's dtype."""
        return cpu_unquantized_gemm(layer, x, cast(torch.Tensor, layer.weight), bias)
