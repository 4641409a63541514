"""A draft's routed experts, offered to `--moe-backend dgx` with `--dense-dtype` when vLLM makes them.

NVFP4 checkpoints leave the MTP layer in BF16, where Qwen3-Next's 512 experts take 3.2 GB. Both flags are
needed: one says whose kernels, the other that what was left in BF16 may be quantized. What a draft computes
decides how many of its tokens are kept, and never which tokens come out. A model's own experts in BF16
decide that, and stay.
"""

from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.custom_op import PluggableLayer
from vllm.model_executor.layers.fused_moe import (
    FusedMoEConfig,
    FusedMoEMethodBase,
    RoutedExperts,
    UnquantizedFusedMoEMethod,
)
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig

from dgx_vllm.formats import dense_dtype, tensor_roles


def register() -> None:
    """Have vLLM make its routed experts by a class that offers them."""
    offered = type(RoutedExperts.__name__, (_Offered,), {"__module__": __name__})
    PluggableLayer.register_oot(offered, name=RoutedExperts.__name__)


class _Offered(RoutedExperts):
    def _get_quant_method(
        self, prefix: str, quant_config: QuantizationConfig | None, moe_config: FusedMoEConfig
    ) -> FusedMoEMethodBase:
        method = super()._get_quant_method(prefix, quant_config, moe_config)
        if (
            not isinstance(method, UnquantizedFusedMoEMethod)
            or not moe_config.prefers_dgx
            or not tensor_roles.is_offered(prefix)
            or not _asked()
        ):
            return method
        from dgx_vllm.plugin.draft_experts.method import adopt

        return adopt(prefix, method)


def _asked() -> bool:
    """Whether to quantize what a checkpoint left in BF16.

    Raises:
        ValueError: the requested dtype is unknown.
    """
    config = get_current_vllm_config_or_none()
    return config is not None and dense_dtype.requested(config.additional_config) != "bf16"
