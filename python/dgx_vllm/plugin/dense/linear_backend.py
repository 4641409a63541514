"""`--linear-backend dgx` in vLLM: a checkpoint's own NVFP4 linear layers by `linear_nvfp4`."""

from typing import cast

import torch
from torch import Tensor
from vllm import envs
from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.kernels.linear import CutlassNvFp4LinearKernel
from vllm.platforms import current_platform

from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_TOKENS
from dgx_vllm.plugin import decisions
from dgx_vllm.plugin.dense.nvfp4_linear import linear_nvfp4, refusal, slices
from dgx_vllm.plugin.fallback import fallback_text
from dgx_vllm.plugin.log import logger, without_number


def select(use_a16: bool) -> type["DecodeNvFp4LinearKernel"] | None:
    """The kernel of NVFP4 layers, or None where vLLM is to select, with one line in the log that says why."""
    if current_platform.is_cpu():
        logger.info_once("linear_backend 'dgx': on a CPU the reference path serves NVFP4 layers")
        return None
    config = get_current_vllm_config_or_none()
    model = None if config is None else config.model_config
    reason = refusal()
    if reason is None and model is not None and model.dtype != torch.bfloat16:
        reason = f"activations are {model.dtype} and not torch.bfloat16"
    if reason is None and envs.VLLM_BATCH_INVARIANT:
        reason = "batch invariance"
    if reason is None and use_a16:
        # Beyond a few tokens activations would be quantized, which such a checkpoint does not ask for.
        reason = "the checkpoint quantizes weights alone"
    decisions.record(f"linear_nvfp4 {'serves' if reason is None else 'leaves'} NVFP4 layers")
    if reason is not None:
        logger.warning_once("linear_backend 'dgx' leaves NVFP4 layers to vLLM: %s", reason)
        return None
    logger.info_once(
        "linear_backend 'dgx': linear_decode for 1 to %d tokens, %s",
        MAX_TOKENS,
        fallback_text(slices()),
    )
    return DecodeNvFp4LinearKernel


class DecodeNvFp4LinearKernel(CutlassNvFp4LinearKernel):
    """vLLM's CUTLASS kernel (W4A4), with ours (W4A16) for a few tokens on the same weights.

    vLLM's fusions of activations with their quantization do not reach into the operator.
    """

    @classmethod
    def is_supported(cls, compute_capability: int | None = None) -> tuple[bool, str | None]:
        """Where the kernels' library is, and a device for it."""
        reason = refusal()
        return reason is None, reason

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Bring the block scales into the 128x4 layout, as the parent does.

        Raises:
            ValueError: the sizes do not fit, on a device for which vLLM has no other kernel of this layout.
        """
        rows, half = cast(Tensor, layer.weight).shape
        odd = [size for size in (rows, 2 * half) if size % DIM_MULTIPLE]
        name = getattr(layer, "prefix", type(layer).__name__)
        if odd and slices():
            raise ValueError(
                f"linear_backend 'dgx': {name}'s size {odd[0]} is not a multiple of {DIM_MULTIPLE}; leave "
                "the flag out"
            )
        if odd:
            logger.warning_once(
                "linear_backend 'dgx' leaves %s to CUTLASS: its size %d is not a multiple of %d",
                without_number(name),
                odd[0],
                DIM_MULTIPLE,
            )
        super().process_weights_after_loading(layer)
        layer.__dict__["decodes"] = not odd

    def apply_weights(self, layer: torch.nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x bfloat16 [..., k] times the weight, plus bias [rows]: [..., rows]."""
        if not layer.__dict__["decodes"] or x.dtype != torch.bfloat16:
            return super().apply_weights(layer, x, bias)
        weight = layer.weight, layer.weight_scale, layer.weight_global_scale
        return linear_nvfp4(x, *weight, bias, layer.input_global_scale_inv)
