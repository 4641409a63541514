"""moe_decode_24, as an implementation: the same layers with two of every four values set to zero."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from dgx_vllm.bench_kernels.implementation import Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels import abi
from dgx_vllm.kernels.library import Library
from dgx_vllm.kernels.moe_layer import ExpertTiles, SharedExpert
from dgx_vllm.kernels.operators import compress_24

#: Bits of four codes: which two of them are kept.
_KEPT = (0x00FF, 0x0F0F, 0xF00F, 0x0FF0, 0xF0F0, 0xFF00)


def keep_two(packed: Tensor, generator: torch.Generator) -> Tensor:
    """Two of every four codes along K, drawn at random, and zeros.

    Args:
        packed: uint8 [experts, rows, K / 2], K a multiple of 4.
    """
    masks = torch.tensor(_KEPT, device=packed.device).to(torch.int16)
    out = torch.empty_like(packed)
    for kept_quads, quads in zip(out.view(torch.int16), packed.view(torch.int16), strict=True):
        drawn = torch.randint(0, len(_KEPT), quads.shape, device=packed.device, generator=generator)
        torch.bitwise_and(quads, masks[drawn], out=kept_quads)
    return out


class SparseExperts:
    """Experts of 2:4, in a checkpoint's layout and in tiles."""

    def __init__(self, dense: Experts) -> None:
        generator = torch.Generator(dense.w13.device).manual_seed(11)
        self.checkpoint = copy.copy(dense)
        self.checkpoint.w13, self.checkpoint.w2 = (
            keep_two(packed, generator) for packed in (dense.w13, dense.w2)
        )
        self.w13 = compress_24(self.checkpoint.w13, dense.s13_swizzled, True)
        self.w2 = compress_24(self.checkpoint.w2, dense.s2_swizzled, False)

    @property
    def tiles(self) -> ExpertTiles:
        """The four tensors as moe_decode_24 takes them."""
        return ExpertTiles(self.w13, self.checkpoint.g13, self.w2, self.checkpoint.g2)

    @property
    def bytes_each(self) -> int:
        """What one expert's tiles take."""
        return self.w13[0].numel() + self.w2[0].numel()


class Launch:
    """One layer's launch, which may start before the one in front of it ends."""

    def __init__(
        self, library: Library, routed: SparseExperts, shared: SparseExperts, case: Case, inputs: Inputs
    ) -> None:
        self.library = library
        self.out = torch.full_like(inputs.x, float("nan"))
        sizes = routed.checkpoint.intermediate, shared.checkpoint.intermediate
        tokens, top_k = inputs.ids.shape
        size = abi.moe_decode_workspace(tokens, top_k, *sizes)(library)
        self.call = abi.moe_decode_24(
            self.out,
            inputs.x,
            routed.tiles,
            inputs.routing,
            SharedExpert(shared.tiles, inputs.gate) if case.shared else None,
            torch.zeros(size, dtype=torch.bfloat16, device=inputs.x.device),
            "silu",
        )

    def __call__(self) -> Tensor:
        self.call(self.library)
        return self.out


class Prepared:
    """The layer's weights, pruned and compressed."""

    def __init__(self, library: Library, weights: Weights) -> None:
        self.library = library
        self.routed, self.shared = SparseExperts(weights.routed), SparseExperts(weights.shared)
        self.weights = Weights(self.routed.checkpoint, self.shared.checkpoint)
        self.expert_bytes, self.shared_bytes = self.routed.bytes_each, self.shared.bytes_each

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        if not case.swizzled:  # tiles hold the scales, in one layout
            return []
        return [Launch(self.library, self.routed, self.shared, case, inputs)]


class Nothing:
    """The refusal of sizes that are not whole tiles."""

    weights = None
    expert_bytes = shared_bytes = 0

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        return []


class MoeDecode24:
    """`kernels/moe_decode.cu` on weights of 2:4."""

    name = "moe_decode 2:4"
    tolerance = 3e-3

    def __init__(self, library: Library) -> None:
        self.library = library

    def kernel(self, case: Case) -> str:
        return f"{self.name}, {case.name}"

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared | Nothing:
        sizes = shape.hidden, shape.intermediate, shape.shared_intermediate
        if any(size % tiles.COLUMNS for size in sizes):
            return Nothing()
        return Prepared(self.library, weights)
