"""A draft's routed experts become NVFP4 while they are loaded, for `moe_decode` and vLLM's CUTLASS experts.

vLLM's machinery for online quantization keeps what the loader brings until the layer is whole, materializes
it in BF16 and has it quantized, here an expert at a time. On a CPU, whose experts are not quantized, the
weights become what NVFP4 makes of them: the reference path.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, cast

import torch
from vllm.model_executor.layers.fused_moe import (
    FusedMoEMethodBase,
    FusedMoEParallelConfig,
    RoutedExperts,
    UnquantizedFusedMoEMethod,
)
from vllm.model_executor.layers.fused_moe.modular_kernel import FusedMoEActivationFormat
from vllm.model_executor.layers.fused_moe.oracle.nvfp4 import NvFp4MoeBackend
from vllm.model_executor.layers.quantization.online.moe_base import OnlineMoEMethodBase
from vllm.model_executor.layers.quantization.online.nvfp4 import Nvfp4OnlineMoEMethod
from vllm.model_executor.layers.quantization.utils.quant_utils import kNvfp4Dynamic, kNvfp4Static
from vllm.model_executor.model_loader.reload.layerwise import initialize_online_processing
from vllm.model_executor.utils import replace_parameter
from vllm.platforms import current_platform

from dgx_vllm.formats.nvfp4 import BLOCK_SIZE, dequantize, fitted, quantize
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin import device_memory
from dgx_vllm.plugin.fallback import fallback_text
from dgx_vllm.plugin.log import logger
from dgx_vllm.plugin.moe.experts import DecodeExperts, SlicedExperts
from dgx_vllm.plugin.moe.select import uncompressed

#: The scale of what CUTLASS quantizes to FP4, for which a checkpoint of BF16 holds no calibration. It puts a
#: block whose largest value is 1 into the middle of E4M3's normal numbers: block scales are as exact as any
#: from 1/170 to 168. Larger values are cut to 168; smaller blocks lose their scale's precision, and become
#: zeros below 1/5000. What goes in comes from an RMSNorm, or is a product of two such projections.
INPUT_SCALE = 1 / 16

#: Bytes per value that quantizing or rounding an expert's matrix needs in addition to its result.
_WORK_BYTES = 24


def adopt(name: str, unquantized: UnquantizedFusedMoEMethod) -> FusedMoEMethodBase:
    """The method for a draft's layer of experts in BF16: `unquantized` where it cannot be NVFP4.

    Args:
        name: the layer's.
        unquantized: what vLLM has for it.
    """
    config = unquantized.moe
    sizes = config.hidden_dim, config.intermediate_size_per_partition
    if current_platform.is_cpu():
        if any(size % BLOCK_SIZE for size in sizes):
            return _left(name, f"its sizes {sizes} are not multiples of {BLOCK_SIZE}", unquantized)
        logger.info_once("moe_backend 'dgx': a draft's experts are rounded to NVFP4")
        return RoundingMethod(name, unquantized)
    if (
        unquantized.maybe_roundup_sizes(*sizes, config.in_dtype, config.moe_parallel_config) != sizes
    ):  # They would be padded for kernels that are not to be called.
        return _left(name, f"vLLM pads its sizes {sizes}", unquantized)
    batched = config.moe_parallel_config.use_batched_activation_format
    form = FusedMoEActivationFormat.BatchedExperts if batched else FusedMoEActivationFormat.Standard
    experts = uncompressed(config, kNvfp4Static, kNvfp4Dynamic, form)
    if experts is None:
        return unquantized
    logger.info_once(
        "moe_backend 'dgx': a draft's experts become NVFP4; moe_decode for 1 to %d tokens, %s",
        MAX_TOKENS,
        fallback_text(issubclass(experts, SlicedExperts)),
    )
    return Nvfp4DraftMethod(name, unquantized, experts)


class DraftMethod(Nvfp4OnlineMoEMethod):
    """What both kinds below do: load as `unquantized` does, and convert the layer when it is whole.

    Args:
        name: the layer's.
        unquantized: made for the same layer, which gets it back where it cannot be converted.
    """

    activation_quant_key = kNvfp4Dynamic

    def __init__(self, name: str, unquantized: UnquantizedFusedMoEMethod) -> None:
        # Not the parent's, which is for SM100.
        OnlineMoEMethodBase.__init__(self, unquantized.moe)
        self.name = name
        self.unquantized = unquantized

    @property
    def supports_eplb(self) -> bool:
        return False

    def maybe_roundup_sizes(
        self,
        hidden_size: int,
        intermediate_size_per_partition: int,
        act_dtype: torch.dtype,
        moe_parallel_config: FusedMoEParallelConfig,
    ) -> tuple[int, int]:
        """Of a layer that may go back to `unquantized`."""
        return self.unquantized.maybe_roundup_sizes(
            hidden_size, intermediate_size_per_partition, act_dtype, moe_parallel_config
        )

    def create_weights(self, layer: Any, *sizes: Any, **attributes: Any) -> None:
        """`unquantized`'s, in BF16, which take no memory before they are loaded."""
        with torch.device("meta"):
            self.unquantized.create_weights(layer, *sizes, **attributes)
        initialize_online_processing(layer)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Convert a layer; vLLM calls twice.

        Raises:
            ValueError: it cannot be, and its shared expert is with our experts already.
        """
        routed = cast(RoutedExperts, layer)
        if _weights(routed)[0].dtype == torch.uint8:
            return
        reason = next(self.refusals(routed), None)
        if reason is None:
            self.convert(routed)
            return
        if getattr(layer, "shared_slot", None) is not None:
            raise ValueError(f"{self.name} cannot become NVFP4: {reason}; serve without --dense-dtype")
        routed.quant_method = _left(self.name, reason, self.unquantized)

    def refusals(self, layer: RoutedExperts) -> Iterator[str]:
        """Why a layer's weights cannot be converted; the first counts."""
        needed, free = self.room(layer), device_memory.free(_weights(layer)[0].device)
        if needed > free:
            yield f"quantizing it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
        largest = [expert.abs().amax() for weight in _weights(layer) for expert in weight]
        if not torch.stack(largest).isfinite().all():
            yield "it holds weights that are not finite"

    def room(self, layer: RoutedExperts) -> int:
        """Bytes that `convert` needs in addition to the weights in BF16."""
        return max(_WORK_BYTES * weight[0].numel() for weight in _weights(layer))

    @abstractmethod
    def convert(self, layer: RoutedExperts) -> None:
        """Make the weights NVFP4's."""


class Nvfp4DraftMethod(DraftMethod):
    """NVFP4 as `experts` read it: gate before up, block scales in CUTLASS's 128x4 layout.

    Args:
        experts: what serves the layer.
    """

    def __init__(
        self, name: str, unquantized: UnquantizedFusedMoEMethod, experts: type[DecodeExperts]
    ) -> None:
        super().__init__(name, unquantized)
        self.nvfp4_backend, self.experts_cls = NvFp4MoeBackend.VLLM_CUTLASS, experts

    def room(self, layer: RoutedExperts) -> int:
        """Room for w13's result too. w2's is smaller than the BF16 that w13 has given up by then."""
        packed = _weights(layer)[0].numel() // 2
        return super().room(layer) + packed + packed // 8

    def convert(self, layer: RoutedExperts) -> None:
        """Replace weights and add scales, which our experts and CUTLASS share."""
        for part, weight in zip(("w13", "w2"), _weights(layer), strict=True):
            experts, rows, columns = weight.shape
            packed = weight.new_empty((experts, rows, columns // 2), dtype=torch.uint8)
            scale = weight.new_empty((experts, rows, columns // BLOCK_SIZE), dtype=torch.float8_e4m3fn)
            # One for gate and up, as CUTLASS wants it.
            scale_2 = weight.new_empty(experts, dtype=torch.float32)
            for index, expert in enumerate(weight):
                packed[index], scale[index], scale_2[index] = _parts(expert)
            # vLLM's loader holds the parameter until the layer is done.
            weight.data = weight.new_empty(0)
            replace_parameter(layer, f"{part}_weight", packed)
            replace_parameter(layer, f"{part}_weight_scale", scale)
            replace_parameter(layer, f"{part}_weight_scale_2", scale_2)
        # Shaped as ModelOpt's, whose gate and up have one each.
        replace_parameter(layer, "w13_input_scale", torch.full_like(scale_2, INPUT_SCALE).unsqueeze(1))
        replace_parameter(layer, "w2_input_scale", torch.full_like(scale_2, INPUT_SCALE))
        self._setup_kernel(layer)


class RoundingMethod(DraftMethod):
    """The values that NVFP4 has for the weights, in place; `unquantized` serves them."""

    #: `--moe-backend dgx` tells methods for NVFP4 by it.
    nvfp4_backend = NvFp4MoeBackend.EMULATION

    def convert(self, layer: RoutedExperts) -> None:
        """Round, and give the layer back to vLLM, which processes all layers once they are loaded."""
        for weight in _weights(layer):
            for expert in weight:
                expert.copy_(dequantize(quantize(expert, scales=fitted), expert.dtype))
        layer.quant_method = self.unquantized


def _parts(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    quantized = quantize(weight, scales=fitted)
    return quantized.weight, quantized.weight_scale, quantized.weight_scale_2


def _weights(layer: RoutedExperts) -> tuple[torch.Tensor, torch.Tensor]:
    """w13 [experts, 2 * intermediate, hidden] and w2 [experts, hidden, intermediate]."""
    return cast(torch.Tensor, layer.w13_weight), cast(torch.Tensor, layer.w2_weight)


def _left(name: str, reason: str, unquantized: UnquantizedFusedMoEMethod) -> UnquantizedFusedMoEMethod:
    logger.warning_once("moe_backend 'dgx' leaves %s in BF16: %s", name, reason)
    return unquantized
