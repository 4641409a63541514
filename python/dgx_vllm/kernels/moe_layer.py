"""The tensors of a mixture-of-experts layer, as kernels/moe_layer.cuh describes it.

NVFP4 weights are as a checkpoint has them: two E2M1 codes a byte, low nibble first. Block scales are
float8_e4m3fn or its bytes.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from dgx_vllm.formats.nvfp4 import tiles


@dataclass(frozen=True)
class ExpertWeights:
    """NVFP4 weights of experts of one shape.

    Attributes:
        w13: uint8 [experts, 2 * intermediate, hidden / 2], gate rows before up rows.
        w13_scale: its block scales: linear, [experts, 2 * intermediate, hidden / 16], or in the 128x4 layout
            of the FP4 tensor cores (vLLM's `swizzle_blockscale`), padded to 128 rows and 4 columns.
        w13_global: float32 [experts].
        w2: uint8 [experts, hidden, intermediate / 2].
        w2_scale: its block scales, in the layout of `w13_scale`.
        w2_global: float32 [experts].
    """

    w13: Tensor
    w13_scale: Tensor
    w13_global: Tensor
    w2: Tensor
    w2_scale: Tensor
    w2_global: Tensor

    @property
    def intermediate(self) -> int:
        """The intermediate size."""
        return self.w2.shape[2] * 2

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All six, in the order of the attributes."""
        return self.w13, self.w13_scale, self.w13_global, self.w2, self.w2_scale, self.w2_global


@dataclass(frozen=True)
class ExpertTiles:
    """2:4 weights of experts of one shape, in compressed tiles, which hold their block scales.

    Attributes:
        w13: uint8 [experts, 2 * intermediate / 16, hidden / 256, 1792], of gate and up (`compress_24`).
        w13_global: float32 [experts].
        w2: uint8 [experts, hidden / 16, intermediate / 256, 1792].
        w2_global: float32 [experts].
    """

    w13: Tensor
    w13_global: Tensor
    w2: Tensor
    w2_global: Tensor

    @property
    def intermediate(self) -> int:
        """The intermediate size."""
        return self.w2.shape[2] * tiles.COLUMNS

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All four, in the order of the attributes."""
        return self.w13, self.w13_global, self.w2, self.w2_global


@dataclass(frozen=True)
class Routing:
    """The router's choice of experts.

    Attributes:
        topk_ids: int32 [tokens, top_k]; an id below 0 names no expert.
        topk_weights: float32 [tokens, top_k].
        expert_map: int32 [ids], from ids to this rank's experts, below 0 for those of other ranks; None where
            all experts are here.
    """

    topk_ids: Tensor
    topk_weights: Tensor
    expert_map: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """All three, in the order of the attributes."""
        return self.topk_ids, self.topk_weights, self.expert_map


Weights = TypeVar("Weights", ExpertWeights, ExpertTiles)


@dataclass(frozen=True)
class SharedExpert(Generic[Weights]):
    """The expert that every token uses.

    Attributes:
        weights: of one expert, with an intermediate size of its own.
        gate: bfloat16 [hidden], whose product with x is the logit of the expert's weight; None for weight 1.
    """

    weights: Weights
    gate: Tensor | None
