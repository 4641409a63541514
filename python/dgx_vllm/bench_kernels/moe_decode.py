"""moe_decode, as an implementation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dgx_vllm.bench_kernels.implementation import Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.kernels import abi
from dgx_vllm.kernels.library import Library
from dgx_vllm.kernels.moe_layer import SharedExpert


class Launch:
    """One layer's launch.

    Args:
        overlap: the kernel may start before the one in front of it ends.
    """

    def __init__(
        self, library: Library, weights: Weights, case: Case, inputs: Inputs, *, overlap: bool
    ) -> None:
        self.library = library
        self.out = torch.full_like(inputs.x, float("nan"))
        tokens, top_k = inputs.ids.shape
        sizes = weights.routed.intermediate, weights.shared.intermediate
        size = abi.moe_decode_workspace(tokens, top_k, *sizes)(library)
        self.call = abi.moe_decode(
            self.out,
            inputs.x,
            weights.routed.weights(case.swizzled),
            inputs.routing,
            SharedExpert(weights.shared.weights(case.swizzled), inputs.gate) if case.shared else None,
            torch.zeros(size, dtype=torch.bfloat16, device=inputs.x.device),
            "silu",
            swizzled=case.swizzled,
            overlap=overlap,
        )

    def __call__(self) -> Tensor:
        self.call(self.library)
        return self.out


class Prepared:
    """The checkpoint's weights: nothing is made of them."""

    def __init__(self, library: Library, weights: Weights) -> None:
        self.library, self.weights = library, weights
        self.expert_bytes, self.shared_bytes = weights.routed.bytes_each, weights.shared.bytes_each

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        return [Launch(self.library, self.weights, case, inputs, overlap=True)]


class MoeDecode:
    """`kernels/moe_decode.cu`."""

    name = "moe_decode"
    tolerance = 3e-3

    def __init__(self, library: Library) -> None:
        self.library = library

    def kernel(self, case: Case) -> str:
        return f"{self.name}, {case.name}"

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared:
        return Prepared(self.library, weights)
