"""NVFP4 experts on GPUs: our kernel for a few tokens, vLLM's own beyond, on one copy of the weights."""

from collections.abc import Iterator

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.layers.fused_moe.modular_kernel import ExpertTokensMetadata, FusedMoEActivationFormat
from vllm.model_executor.layers.quantization.utils.quant_utils import QuantKey

from dgx_vllm import kernels
from dgx_vllm.kernels.launch import MOST_TOKENS
from dgx_vllm.kernels.operators import moe_decode
from dgx_vllm.plugin import device

#: Calls with more tokens go to vLLM's experts. The kernel's limit; on a GB10 they may cross before it.
CROSSOVER = MOST_TOKENS

#: Rows and columns that the kernel takes at once.
_MULTIPLE = 64
_MOST_EXPERTS = 32767
_MOST_EXPERTS_PER_TOKEN = 32
_ACTIVATIONS = {
    MoEActivation.SILU: "silu",
    MoEActivation.GELU: "gelu",
    MoEActivation.GELU_TANH: "gelu_tanh",
}

# A name below `vllm.` inherits vLLM's handlers, which configure no other logger.
_logger = init_logger("vllm.plugins.dgx_vllm")


class DecodeExperts(CutlassExpertsFp4):
    """vLLM's CUTLASS experts (W4A4), with our kernel (W4A16) for up to `CROSSOVER` tokens.

    CUTLASS is what decides the layout: weights as the checkpoint has them, gate before up, and swizzled block
    scales. The kernel reads the same tensors.
    """

    w13_global: torch.Tensor
    w2_global: torch.Tensor

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Keep the weights' global scales [experts]: the parent multiplies the activations' into them."""
        held = dict(layer.named_parameters(recurse=False))
        self.w13_global = held["w13_weight_scale_2"].detach().clone()
        self.w2_global = held["w2_weight_scale_2"].detach().clone()
        super().process_weights_after_loading(layer)

    @staticmethod
    def _supports_current_device() -> bool:
        return device.capability() == (12, 1)

    @staticmethod
    def _supports_no_act_and_mul() -> bool:
        return False

    @staticmethod
    def _supports_activation(activation: MoEActivation) -> bool:
        return activation in _ACTIVATIONS

    @staticmethod
    def _supports_batch_invariance() -> bool:
        # Which of the two computes a token depends on the others.
        return False

    def apply(
        self,
        output: torch.Tensor,
        hidden_states: torch.Tensor,
        w1: torch.Tensor,
        w2: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: torch.Tensor | None,
        a1q_scale: torch.Tensor | None,
        a2_scale: torch.Tensor | None,
        workspace13: torch.Tensor | None,
        workspace2: torch.Tensor | None,
        expert_tokens_meta: ExpertTokensMetadata | None,
        apply_router_weight_on_input: bool,
    ) -> None:
        """Write the routed experts' weighted sum [tokens, hidden] to `output`.

        With `apply_router_weight_on_input` the weights are in `hidden_states` already (prepare_finalize), and
        count as 1 here; the parent would multiply them in once more.
        """
        if apply_router_weight_on_input:
            topk_weights = torch.ones_like(topk_weights)
        if len(hidden_states) <= CROSSOVER:
            self.decode(output, hidden_states, w1, w2, topk_weights, topk_ids, activation, expert_map)
            return
        super().apply(
            output,
            hidden_states,
            w1,
            w2,
            topk_weights,
            topk_ids,
            activation,
            global_num_experts,
            expert_map,
            a1q_scale,
            a2_scale,
            workspace13,
            workspace2,
            expert_tokens_meta,
            apply_router_weight_on_input,
        )

    def decode(
        self,
        output: torch.Tensor,
        x: torch.Tensor,
        w13: torch.Tensor,
        w2: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        activation: MoEActivation,
        expert_map: torch.Tensor | None,
    ) -> None:
        """The kernel on up to 16 tokens."""
        assert self.w1_scale is not None
        assert self.w2_scale is not None
        moe_decode(
            output,
            x,
            w13,
            self.w1_scale,
            self.w13_global,
            w2,
            self.w2_scale,
            self.w2_global,
            topk_ids.to(torch.int32),
            topk_weights.to(torch.float32),
            expert_map,
            _ACTIVATIONS[activation],
        )


class SlicedExperts(DecodeExperts):
    """The kernel for any number of tokens, 16 at a time: for Hopper, whose tensor cores multiply no FP4.

    There to verify the kernel inside of vLLM. Each slice reads its experts anew, so prefill is slow.
    """

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Nothing is multiplied into the global scales, as no activation is quantized."""
        held = dict(layer.named_parameters(recurse=False))
        self.w13_global, self.w2_global = held["w13_weight_scale_2"], held["w2_weight_scale_2"]

    @staticmethod
    def _supports_current_device() -> bool:
        return device.capability() == (9, 0)

    def apply(
        self,
        output: torch.Tensor,
        hidden_states: torch.Tensor,
        w1: torch.Tensor,
        w2: torch.Tensor,
        topk_weights: torch.Tensor,
        topk_ids: torch.Tensor,
        activation: MoEActivation,
        global_num_experts: int,
        expert_map: torch.Tensor | None,
        a1q_scale: torch.Tensor | None,
        a2_scale: torch.Tensor | None,
        workspace13: torch.Tensor | None,
        workspace2: torch.Tensor | None,
        expert_tokens_meta: ExpertTokensMetadata | None,
        apply_router_weight_on_input: bool,
    ) -> None:
        """As `DecodeExperts.apply`, a slice of the tokens after another."""
        if apply_router_weight_on_input:
            topk_weights = torch.ones_like(topk_weights)
        for start in range(0, len(hidden_states), MOST_TOKENS):
            part = slice(start, start + MOST_TOKENS)
            self.decode(
                output[part],
                hidden_states[part],
                w1,
                w2,
                topk_weights[part],
                topk_ids[part],
                activation,
                expert_map,
            )


def select(
    config: FusedMoEConfig,
    weight_key: QuantKey | None,
    activation_key: QuantKey | None,
    activation_format: FusedMoEActivationFormat,
) -> type[DecodeExperts] | None:
    """The experts for a layer, or None where vLLM is to select, with one line in the log that says why."""
    experts = SlicedExperts if SlicedExperts._supports_current_device() else DecodeExperts
    refusal = next(_refusals(experts, config, weight_key, activation_key, activation_format), None)
    if refusal is not None:
        _logger.warning_once("moe_backend 'dgx' leaves a layer to vLLM: %s", refusal)
        return None
    _logger.info_once(
        "moe_backend 'dgx': moe_decode for 1 to %d tokens, %s",
        CROSSOVER,
        "and beyond in slices, which is slow" if experts is SlicedExperts else "vLLM's CUTLASS beyond",
    )
    return experts


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
    try:
        kernels.find()
    except kernels.NoLibraryError as error:
        yield str(error)
    supported, reason = experts.is_supported_config(
        experts, config, weight_key, activation_key, activation_format
    )
    if not supported:
        yield str(reason)
    if config.in_dtype != torch.bfloat16:
        yield f"activations are {config.in_dtype} and not torch.bfloat16"
    for name, size in (
        ("hidden", config.hidden_dim),
        ("intermediate", config.intermediate_size_per_partition),
    ):
        if size % _MULTIPLE:
            yield f"the {name} size {size} is no multiple of {_MULTIPLE}"
    if config.num_local_experts > _MOST_EXPERTS:
        yield f"{config.num_local_experts} experts are more than {_MOST_EXPERTS}"
    if config.experts_per_token > _MOST_EXPERTS_PER_TOKEN:
        yield f"{config.experts_per_token} experts a token are more than {_MOST_EXPERTS_PER_TOKEN}"
    if config.has_bias:
        yield "the experts have a bias"
    if any(each is not None for each in (config.swiglu_limit, config.swiglu_alpha, config.swiglu_beta)):
        yield "the model's SwiGLU is clamped or scaled"
    if config.moe_parallel_config.enable_eplb:
        yield "EPLB moves experts, and the kernel's copy of their global scales would stay"
