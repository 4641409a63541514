"""The shared expert as one more slot of `moe_decode`: which, and what the operator takes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from vllm.model_executor.kernels.linear import CutlassNvFp4LinearKernel, FlashInferCutlassNvFp4LinearKernel
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.models.qwen2_moe import Qwen2MoeMLP

from dgx_vllm.kernels.limits import DIM_MULTIPLE
from dgx_vllm.kernels.moe_layer import ExpertWeights, SharedExpert
from dgx_vllm.plugin.moe.experts import DecodeExperts
from dgx_vllm.plugin.moe.experts_24 import SparseExperts

#: Linear kernels that leave weights as in the checkpoint and block scales in the 128x4 layout.
_KERNELS = (CutlassNvFp4LinearKernel, FlashInferCutlassNvFp4LinearKernel)


@dataclass(frozen=True)
class QwenSharedSlot:
    """A `SharedSlot`, of which nothing is copied.

    Args:
        mlp: Qwen's, which is Qwen3-Next's and Qwen3.5's too: gate and up in one layer, SiLU, down, and the
            sigmoid of a gate for each token on the result.
    """

    mlp: Qwen2MoeMLP

    def expert(self) -> SharedExpert[ExpertWeights]:
        """Its tensors, as `moe_decode` takes them: views of the layers' own."""
        tensors = [
            cast(Tensor, tensor).unsqueeze(0)
            for layer in (self.mlp.gate_up_proj, self.mlp.down_proj)
            for tensor in (layer.weight, layer.weight_scale, layer.weight_global_scale)
        ]
        gate = self.mlp.expert_gate
        return SharedExpert(
            ExpertWeights(*tensors), None if gate is None else cast(Tensor, gate.weight).view(-1)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """By vLLM's own layers: [tokens, hidden]."""
        return cast(Tensor, self.mlp(x))


def refusals(shared: torch.nn.Module, experts: RoutedExperts) -> Iterator[str]:
    """Why `shared` cannot be a slot next to `experts`; the first reason counts."""
    kind = getattr(experts.quant_method, "experts_cls", None)
    if not (isinstance(kind, type) and issubclass(kind, DecodeExperts)):
        yield "the routed experts are not ours"
        return
    if issubclass(kind, SparseExperts):
        yield "the routed experts are kept in tiles of 2:4"
    if experts.apply_router_weight_on_input:
        yield "the routed experts' input carries the router's weights"
    if experts.activation != MoEActivation.SILU:
        yield f"the routed experts' gate is {experts.activation.value} and its own silu"
    parallel = experts.moe_config.moe_parallel_config
    if parallel.dp_size > 1 or parallel.pcp_size > 1 or parallel.is_sequence_parallel:
        yield "ranks exchange tokens"
    if not isinstance(shared, Qwen2MoeMLP):
        yield f"{type(shared).__name__} is not known to be gate, up, SiLU and down"
        return
    for layer in (shared.gate_up_proj, shared.down_proj):
        kernel = kernel_of(layer)
        if not isinstance(kernel, _KERNELS):
            server = layer.quant_method if kernel is None else kernel
            yield f"its layers are served by {type(server).__name__}"
        for size in (layer.output_size_per_partition, layer.input_size_per_partition):
            if size % DIM_MULTIPLE:
                yield f"its size {size} is not a multiple of {DIM_MULTIPLE}"


def kernel_of(layer: torch.nn.Module) -> object:
    """A linear layer's NVFP4 kernel: ModelOpt's methods hold it, compressed-tensors' schemes do."""
    holder = getattr(layer, "scheme", layer.quant_method)
    return getattr(holder, "kernel", None)
