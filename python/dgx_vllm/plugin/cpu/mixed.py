"""ModelOpt's mixed checkpoints (NVFP4 with layers in FP8 per tensor) on the CPU."""

from typing import cast

import torch
from vllm.config.quantization import QuantSpec
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase, register_weight_loader_v2_supported_method
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.modelopt import (
    ModelOptFp8Config,
    ModelOptLinearMethod,
    ModelOptMixedPrecisionConfig,
    ModelOptNvFp4Config,
    resolve,
)
from vllm.model_executor.layers.quantization.utils.quant_utils import kNvfp4Dynamic
from vllm.model_executor.layers.utils import cpu_unquantized_gemm, dispatch_cpu_unquantized_gemm
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from dgx_vllm.plugin.cpu.moe import CpuModelOptNvFp4MoEMethod


@register_weight_loader_v2_supported_method
class CpuModelOptFp8LinearMethod(ModelOptLinearMethod):
    """Loads FP8 with a scale for each matrix, and dequantizes after loading.

    vLLM brings fused matrices to one scale by an operator that its CPU build lacks
    (`_C.static_scaled_fp8_quant`, w8a8_utils.py).
    """

    def __init__(self, quant_config: ModelOptFp8Config, prefix: str) -> None:
        spec, context, form = resolve("FP8", quant_config, prefix)
        super().__init__(spec, context, form)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Replace weight float8 [out, in] and its scales float32 [matrices] by one matrix [out, in].

        Its dtype is the layer's compute dtype; activations are not quantized.
        """
        parameters = {name: parameter.data for name, parameter in layer.named_parameters(recurse=False)}
        widths = torch.tensor(cast(list[int], layer.logical_widths))
        scales = parameters["weight_scale"]
        # A matrix that is fused in the checkpoint fills the first, and vLLM leaves the others negative.
        scales = torch.where(scales > 0, scales, scales.max()).repeat_interleave(widths)[:, None]
        weight = (parameters["weight"].to(torch.float32) * scales).to(self.out_dtype)
        for name in ("weight", "weight_scale", "input_scale"):
            delattr(layer, name)
        layer.weight = torch.nn.Parameter(weight, requires_grad=False)
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x [..., in] times the dequantized weight, plus bias [out]: [..., out] in x's dtype."""
        return cpu_unquantized_gemm(layer, x, cast(torch.Tensor, layer.weight), bias)


@register_weight_loader_v2_supported_method
class CpuModelOptW4A16LinearMethod(ModelOptLinearMethod):
    """NVFP4 without scales for activations, by the same kernel as NVFP4 with them."""

    def __init__(self, quant_config: ModelOptNvFp4Config, prefix: str) -> None:
        spec, context, form = resolve("W4A16_NVFP4", quant_config, prefix)
        super().__init__(spec, context, form)
        # vLLM chooses the kernel by this. For weights alone it insists on Marlin, which GPUs have.
        self.spec = QuantSpec(weight=spec.weight, activation=kNvfp4Dynamic)


class CpuModelOptMixedConfig(ModelOptMixedPrecisionConfig):
    """vLLM's config of mixed checkpoints with the methods that the CPU can run."""

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """As vLLM, but for linear layers in FP8 or with weights alone in NVFP4, and for experts in NVFP4."""
        algorithm = None if self.is_layer_excluded(prefix) else self._resolve_quant_algo(prefix)
        if algorithm == "FP8" and isinstance(layer, (LinearBase, ParallelLMHead)):
            return CpuModelOptFp8LinearMethod(self.fp8_config, prefix)
        if algorithm == "W4A16_NVFP4" and isinstance(layer, (LinearBase, ParallelLMHead)):
            return CpuModelOptW4A16LinearMethod(self.w4a16_nvfp4_config, prefix)
        if algorithm in ("NVFP4", "W4A16_NVFP4") and isinstance(layer, RoutedExperts):
            return CpuModelOptNvFp4MoEMethod(self.nvfp4_config, layer.moe_config)
        return super().get_quant_method(layer, prefix)
