"""NVFP4 experts pruned to 2 of 4 and kept compressed: 3.5 bits a weight in memory, and read by our kernel.

vLLM's CUTLASS experts want them uncompressed. They get them in one scratch, which all layers of one shape
share and each fills again on its way.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from vllm.model_executor.utils import replace_parameter

from dgx_vllm.formats.nvfp4 import tiles
from dgx_vllm.kernels.moe_layer import ExpertTiles, Routing
from dgx_vllm.kernels.operators import compress_24, decompress_24, moe_decode_24
from dgx_vllm.plugin.moe.experts import DecodeExperts, SlicedExperts

#: Calls with more tokens go to vLLM's experts. By bytes, not measured: beyond, a layer moves 12.5 bits a
#: weight (3.5 read, 4.5 written and read). 16 tokens of the kernel read 3.5 bits of the experts that they
#: choose: a quarter of Qwen3-Next's and two fifths of Qwen3.6-35B-A3B's, if they choose independently.
MAX_SPARSE_TOKENS = 128


@dataclass(frozen=True)
class Uncompressed:
    """A layer's weights as CUTLASS reads them."""

    w13: torch.Tensor
    w13_scale: torch.Tensor
    w2: torch.Tensor
    w2_scale: torch.Tensor


class SparseExperts(DecodeExperts):
    """What both kinds below do: compress after loading, and decode from tiles."""

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Put tiles into the places of the weights; of the scales nothing is left, as tiles hold them.

        Raises:
            ValueError: a weight is not 2:4; it says which and how much of it.
        """
        super().process_weights_after_loading(layer)
        # PyTorch would put these tiles into what the layer before gave up. The eighth of it that they leave
        # is too small for the next layer's, and could not be given back with tiles next to it.
        torch.accelerator.empty_cache()
        parameters = dict(layer.named_parameters(recurse=False))
        dense = Uncompressed(
            w13=parameters["w13_weight"].data,
            w13_scale=parameters["w13_weight_scale"].data,
            w2=parameters["w2_weight"].data,
            w2_scale=parameters["w2_weight_scale"].data,
        )
        remaining = self.keep(dense)
        for part, weight, scale, remaining_scale in (
            ("w13", dense.w13, dense.w13_scale, remaining.w13_scale),
            ("w2", dense.w2, dense.w2_scale, remaining.w2_scale),
        ):
            try:
                compressed = compress_24(weight, scale, part == "w13")
            except ValueError as error:
                name = getattr(layer, "layer_name", type(layer).__name__)
                raise ValueError(
                    f"{name}, {part}: {error}; the checkpoint says that it is, prune it again"
                ) from error
            replace_parameter(layer, f"{part}_weight", compressed)
            # vLLM's quantization config holds the parameter itself, and would keep the old scales.
            parameters[f"{part}_weight_scale"].data = remaining_scale

    def keep(self, dense: Uncompressed) -> Uncompressed:
        """What remains of the uncompressed weights."""
        return Uncompressed(**{name: tensor.new_empty((0,)) for name, tensor in vars(dense).items()})

    def moe_problem_size(
        self, a1: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, topk_ids: torch.Tensor
    ) -> tuple[int, int, int, int, int]:
        """As the parent's, also where `w1` is in tiles [experts, rows / 16, hidden / 256, 1792]."""
        in_tiles = w1.dim() == 4
        experts, tokens, rows, hidden, top_k = super().moe_problem_size(
            a1, w1.flatten(2), w2.flatten(2), topk_ids
        )
        return experts, tokens, rows * tiles.ROWS if in_tiles else rows, hidden, top_k

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
        moe_decode_24(output, x, ExpertTiles(w13, self.w13_global, w2, self.w2_global), routing, activation)


class SparseDecodeExperts(SparseExperts):
    """For a GB10."""

    max_tokens = MAX_SPARSE_TOKENS

    #: By device and shapes: the weights of the first layer of these, as they were before it was compressed.
    scratches: ClassVar[dict[tuple[object, ...], Uncompressed]] = {}

    scratch: Uncompressed

    def keep(self, dense: Uncompressed) -> Uncompressed:
        """A scratch for `dense`, which `dense` itself becomes where there is none yet."""
        shapes = (dense.w13.device, dense.w13.shape, dense.w2.shape)
        self.scratch = self.scratches.setdefault(shapes, dense)
        return self.scratch

    def dense(self, w13: torch.Tensor, w2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights uncompressed into the scratch; the scales there are those that CUTLASS is given."""
        decompress_24(self.scratch.w13, self.scratch.w13_scale, w13, True)
        decompress_24(self.scratch.w2, self.scratch.w2_scale, w2, False)
        return self.scratch.w13, self.scratch.w2


class SparseSlicedExperts(SparseExperts, SlicedExperts):
    """For Hopper, to verify the kernel: 16 tokens at a time, never uncompressed."""
