"""Which layers get our experts, and which of them."""

from collections.abc import Iterator

import torch
from vllm.config.vllm import get_current_vllm_config_or_none
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.modular_kernel import FusedMoEActivationFormat
from vllm.model_executor.layers.quantization.utils.quant_utils import QuantKey

from dgx_vllm.checkpoints import sparsity
from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.formats.nvfp4.sparsity_pattern import TWO_OF_FOUR
from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_EXPERTS_PER_TOKEN, MAX_HIDDEN, MAX_TOKENS
from dgx_vllm.plugin import device
from dgx_vllm.plugin.fallback import fallback_text
from dgx_vllm.plugin.log import logger
from dgx_vllm.plugin.moe.experts import DecodeExperts, SlicedExperts
from dgx_vllm.plugin.moe.experts_24 import MAX_SPARSE_TOKENS, SparseDecodeExperts, SparseSlicedExperts


def select(
    config: FusedMoEConfig,
    weight_key: QuantKey | None,
    activation_key: QuantKey | None,
    activation_format: FusedMoEActivationFormat,
) -> type[DecodeExperts] | None:
    """The experts for a layer, or None where vLLM is to select, with one line in the log that says why."""
    experts = uncompressed(config, weight_key, activation_key, activation_format)
    if experts is None:
        return None
    sliced = issubclass(experts, SlicedExperts)
    sparse = _pruned() and _in_tiles(config)
    if sparse:
        experts = SparseSlicedExperts if sliced else SparseDecodeExperts
    logger.info_once(
        "moe_backend 'dgx': %s for 1 to %d tokens, %s",
        "moe_decode_24 on compressed weights of 2:4" if sparse else "moe_decode",
        MAX_SPARSE_TOKENS if sparse and not sliced else MAX_TOKENS,
        fallback_text(sliced),
    )
    return experts


def uncompressed(
    config: FusedMoEConfig,
    weight_key: QuantKey | None,
    activation_key: QuantKey | None,
    activation_format: FusedMoEActivationFormat,
) -> type[DecodeExperts] | None:
    """As `select`, for weights that are not 2:4 whatever the checkpoint says of its own."""
    experts: type[DecodeExperts] = (
        SlicedExperts if SlicedExperts._supports_current_device() else DecodeExperts
    )
    refusal = next(_refusals(experts, config, weight_key, activation_key, activation_format), None)
    if refusal is None:
        return experts
    logger.warning_once("moe_backend 'dgx' leaves a layer to vLLM: %s", refusal)
    return None


def _pruned() -> bool:
    """Whether the checkpoint says that its routed experts are 2:4."""
    current = get_current_vllm_config_or_none()
    if current is None or current.model_config is None:
        return False
    # Where vLLM looks. It puts hf_quant_config.json there where config.json says nothing.
    whole = current.model_config.hf_config
    sections = [
        getattr(config, "quantization_config", None)
        for config in (whole, getattr(whole, "text_config", None))
    ]
    quantization = next((section for section in sections if isinstance(section, dict)), None)
    if quantization is None:
        return False
    declared = sparsity.declared({"quantization_config": quantization}, beside=quantization)
    return (
        declared is not None and declared.pattern == TWO_OF_FOUR.name and sparsity.ROUTED in declared.targets
    )


def _in_tiles(config: FusedMoEConfig) -> bool:
    for name, size in _sizes(config):
        if size % tiles.COLUMNS:
            logger.warning_once(
                "moe_backend 'dgx' leaves weights of 2:4 uncompressed: the %s size %d is not a multiple of "
                "%d",
                name,
                size,
                tiles.COLUMNS,
            )
            return False
    return True


def _sizes(config: FusedMoEConfig) -> tuple[tuple[str, int], ...]:
    """Hidden and intermediate, of this rank."""
    return ("hidden", config.hidden_dim), ("intermediate", config.intermediate_size_per_partition)


def _refusals(
    experts: type[DecodeExperts],
    config: FusedMoEConfig,
    weight_key: QuantKey | None,
    activation_key: QuantKey | None,
    activation_format: FusedMoEActivationFormat,
) -> Iterator[str]:
    elsewhere = device.refusal()
    if elsewhere is not None:
        yield elsewhere
    supported, reason = experts.is_supported_config(
        experts, config, weight_key, activation_key, activation_format
    )
    if not supported:
        yield str(reason)
    if config.in_dtype != torch.bfloat16:
        yield f"activations are {config.in_dtype} and not torch.bfloat16"
    for name, size in _sizes(config):
        if size % DIM_MULTIPLE:
            yield f"the {name} size {size} is not a multiple of {DIM_MULTIPLE}"
    if config.hidden_dim > MAX_HIDDEN:
        yield f"the hidden size {config.hidden_dim} is more than {MAX_HIDDEN}"
    if config.experts_per_token > MAX_EXPERTS_PER_TOKEN:
        yield f"{config.experts_per_token} experts a token are more than {MAX_EXPERTS_PER_TOKEN}"
    if config.has_bias:
        yield "the experts have a bias"
    if any(
        parameter is not None for parameter in (config.swiglu_limit, config.swiglu_alpha, config.swiglu_beta)
    ):
        yield "the model's SwiGLU is clamped or scaled"
    if config.moe_parallel_config.enable_eplb:
        yield "EPLB moves experts, and the kernel's copy of their global scales would stay"
