"""NVFP4 experts on GPUs: our kernel for a few tokens, vLLM's own beyond, on one copy of the weights."""

import sys
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.layers.fused_moe.modular_kernel import ExpertTokensMetadata
from vllm.model_executor.utils import replace_parameter

from dgx_vllm.host.compute_capability import GB10, HOPPER
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.kernels.moe_layer import ExpertWeights, Routing, SharedExpert
from dgx_vllm.kernels.operators import moe_decode
from dgx_vllm.plugin import device

ACTIVATIONS = {
    MoEActivation.SILU: "silu",
    MoEActivation.GELU: "gelu",
    MoEActivation.GELU_TANH: "gelu_tanh",
}


class SharedSlot(Protocol):
    """A layer's shared expert, as one more slot of `moe_decode` (shared_slot.py)."""

    def expert(self) -> SharedExpert[ExpertWeights]:
        """Its tensors, as `moe_decode` takes them."""

    def __call__(self, x: Tensor) -> Tensor:
        """By vLLM's own layers: bfloat16 [tokens, hidden] of the same."""


class DecodeExperts(CutlassExpertsFp4):
    """vLLM's CUTLASS experts (W4A4), with our kernel (W4A16) for up to `max_tokens` tokens.

    CUTLASS decides the layout: weights as in the checkpoint, gate before up, and swizzled block
    scales. The kernel reads the same tensors.
    """

    #: What the kernel is called for, 16 tokens at a time.
    max_tokens: ClassVar[int] = MAX_TOKENS

    w13_global: torch.Tensor
    w2_global: torch.Tensor
    shared: SharedSlot | None = None

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Keep the weights' global scales [experts]: the parent multiplies the activations' into them.

        As the layer's parameters: when vLLM loads again, it copies those to where CUDA graphs read them.
        """
        self.shared = getattr(layer, "shared_slot", None)
        parameters = dict(layer.named_parameters(recurse=False))
        for part in ("w13", "w2"):
            global_scale = parameters[f"{part}_weight_scale_2"].detach().clone()
            replace_parameter(layer, f"{part}_global", global_scale)
        self.w13_global, self.w2_global = cast(Tensor, layer.w13_global), cast(Tensor, layer.w2_global)
        super().process_weights_after_loading(layer)

    @staticmethod
    def _supports_current_device() -> bool:
        return device.capability() == GB10

    @staticmethod
    def _supports_no_act_and_mul() -> bool:
        return False

    @staticmethod
    def _supports_activation(activation: MoEActivation) -> bool:
        return activation in ACTIVATIONS

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
        """Write the routed experts' weighted sum [tokens, hidden] to `output`, and a shared slot's with it.

        With `apply_router_weight_on_input` the weights are in `hidden_states` already (prepare_finalize), and
        count as 1 here; the parent would multiply them in once more.
        """
        if apply_router_weight_on_input:
            topk_weights = torch.ones_like(topk_weights)
        if len(hidden_states) > self.max_tokens:
            # Before the routed ones, whose output may take the place of their input.
            shared = None if self.shared is None else self.shared(hidden_states)
            super().apply(
                output,
                hidden_states,
                *self.dense(w1, w2),
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
            if shared is not None:
                output += shared
            return
        for start in range(0, len(hidden_states), MAX_TOKENS):
            part = slice(start, start + MAX_TOKENS)
            routing = Routing(
                topk_ids[part].to(torch.int32), topk_weights[part].to(torch.float32), expert_map
            )
            self.decode(output[part], hidden_states[part], w1, w2, routing, ACTIVATIONS[activation])

    def dense(self, w13: torch.Tensor, w2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights that CUTLASS reads."""
        return w13, w2

    def decode(
        self,
        output: torch.Tensor,
        x: torch.Tensor,
        w13: torch.Tensor,
        w2: torch.Tensor,
        routing: Routing,
        activation: str,
    ) -> None:
        """The kernel on up to 16 tokens."""
        assert self.w1_scale is not None
        assert self.w2_scale is not None
        routed = ExpertWeights(w13, self.w1_scale, self.w13_global, w2, self.w2_scale, self.w2_global)
        shared = None if self.shared is None else self.shared.expert()
        moe_decode(output, x, routed, routing, shared, activation)


class SlicedExperts(DecodeExperts):
    """The kernel for any number of tokens, 16 at a time: for Hopper, whose tensor cores multiply no FP4.

    It verifies the kernel inside vLLM. Each slice reads its experts again, so prefill is slow.
    """

    max_tokens = sys.maxsize

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Nothing is multiplied into the global scales, as no activation is quantized."""
        self.shared = getattr(layer, "shared_slot", None)
        parameters = dict(layer.named_parameters(recurse=False))
        self.w13_global, self.w2_global = parameters["w13_weight_scale_2"], parameters["w2_weight_scale_2"]

    @staticmethod
    def _supports_current_device() -> bool:
        return device.capability() == HOPPER
