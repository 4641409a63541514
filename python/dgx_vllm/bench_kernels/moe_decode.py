"""moe_decode, as an implementation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dgx_vllm.bench_kernels.implementation import Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.kernels.library import Library


class Launch:
    """One layer's launch.

    Args:
        overlap: the kernel may start before the one in front of it ends.
    """

    def __init__(
        self, library: Library, weights: Weights, case: Case, inputs: Inputs, *, overlap: bool
    ) -> None:
        tokens, top_k = inputs.ids.shape
        self.library = library
        self.out = torch.full_like(inputs.x, float("nan"))
        workspace = torch.zeros(
            library.moe_decode_workspace(
                tokens, top_k, weights.routed.intermediate, weights.shared.intermediate
            ),
            dtype=torch.bfloat16,
            device=inputs.x.device,
        )
        shared = weights.shared.arguments(case.swizzled) if case.shared else (None,) * 6
        up_first, weight_on_input = False, False
        self.arguments = (
            *(self.out, inputs.x, *weights.routed.arguments(case.swizzled), inputs.ids, inputs.weights, None),
            *(*shared, inputs.gate if case.shared else None, workspace, "silu", case.swizzled),
            *(up_first, weight_on_input, overlap),
        )

    def __call__(self) -> Tensor:
        self.library.moe_decode(*self.arguments)
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
