"""NVFP4 mixture-of-experts layers on the CPU."""

import torch
from vllm.model_executor.layers.fused_moe import (
    FusedMoEConfig,
    FusedMoEMethodBase,
    FusedMoEQuantConfig,
    RoutedExperts,
)
from vllm.model_executor.layers.fused_moe.oracle.nvfp4 import NvFp4MoeBackend
from vllm.model_executor.layers.fused_moe.oracle.unquantized import (
    make_unquantized_moe_kernel,
    select_unquantized_moe_backend,
)
from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config, ModelOptNvFp4FusedMoE
from vllm.model_executor.utils import replace_parameter

from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize


class CpuModelOptNvFp4MoEMethod(ModelOptNvFp4FusedMoE):
    """Loads ModelOpt's tensors as vLLM does, dequantizes them, and runs vLLM's unquantized CPU experts.

    The name must hold "ModelOpt": vLLM's expert weight loader recognizes the scale layout by it.
    """

    supports_pre_processed_weights = False
    supports_eplb = False

    def __init__(self, quant_config: ModelOptNvFp4Config, moe_config: FusedMoEConfig) -> None:
        # Not the parent's: it would look for an NVFP4 backend, of which the CPU has none.
        FusedMoEMethodBase.__init__(self, moe_config)
        self.quant_config = quant_config
        self.use_global_sf = False
        # The one that keeps a checkpoint's layout. `--moe-backend dgx` tells methods for NVFP4 by it.
        self.nvfp4_backend = NvFp4MoeBackend.EMULATION
        self.unquantized_backend, experts = select_unquantized_moe_backend(moe_config)
        assert experts is not None, "the CPU platform always names its experts"
        self.experts_cls = experts

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Replace packed weights and scales by matrices in the compute dtype, and build the kernel.

        `w13_weight` uint8 [experts, 2 * intermediate, hidden / 2] becomes [..., hidden];
        `w2_weight` uint8 [experts, hidden, intermediate / 2] becomes [..., intermediate].
        """
        assert isinstance(layer, RoutedExperts)
        tensors = {name: parameter.data for name, parameter in layer.named_parameters(recurse=False)}
        # [experts, 2]: gate and up have a global scale each, in the order in which their rows are stacked.
        gate_up = tensors["w13_weight_scale_2"]
        gate_up = gate_up.repeat_interleave(tensors["w13_weight"].shape[1] // gate_up.shape[1], dim=1)
        w13 = Nvfp4Tensor(tensors["w13_weight"], tensors["w13_weight_scale"], gate_up)
        w2 = Nvfp4Tensor(tensors["w2_weight"], tensors["w2_weight_scale"], tensors["w2_weight_scale_2"])
        for part in ("w13", "w2"):
            for scale in ("weight_scale", "weight_scale_2", "input_scale"):
                delattr(layer, f"{part}_{scale}")
        replace_parameter(layer, "w13_weight", _dequantize_experts(w13, self.moe.in_dtype))
        replace_parameter(layer, "w2_weight", _dequantize_experts(w2, self.moe.in_dtype))
        self.moe_quant_config = self.get_fused_moe_quant_config(layer)
        self.moe_kernel = make_unquantized_moe_kernel(
            quant_config=self.moe_quant_config,
            moe_config=self.moe,
            backend=self.unquantized_backend,
            experts_cls=self.experts_cls,
            routing_tables=layer._expert_routing_tables(),
        )
        self.moe_kernel.fused_experts.process_weights_after_loading(layer)

    def get_fused_moe_quant_config(self, layer: RoutedExperts) -> FusedMoEQuantConfig:
        """No scales remain; only the activation's parameters are passed on."""
        return FusedMoEQuantConfig.make(
            gemm1_alpha=getattr(layer, "swiglu_alpha", None),
            gemm1_beta=getattr(layer, "swiglu_beta", None),
            gemm1_clamp_limit=getattr(layer, "swiglu_limit", None),
        )


def _dequantize_experts(stacked: Nvfp4Tensor, dtype: torch.dtype) -> torch.Tensor:
    """One expert at a time: a real model's layer, expanded to float32 at once, takes gigabytes."""
    parts = zip(stacked.weight, stacked.weight_scale, stacked.weight_scale_2, strict=True)
    return torch.stack([dequantize(Nvfp4Tensor(*part), dtype) for part in parts])


class CpuModelOptNvFp4Config(ModelOptNvFp4Config):
    """vLLM's ModelOpt NVFP4 config with the MoE method that the CPU can run."""

    FusedMoEMethodCls = CpuModelOptNvFp4MoEMethod
