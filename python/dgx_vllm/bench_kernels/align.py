"""Alignment: slots sorted by expert and padded to blocks, as the peers' GEMMs read them."""

import torch
from torch import Tensor


class Alignment:
    """vLLM's `moe_align_block_size` for one layer (fused_moe/moe_align_block_size.py).

    Attributes:
        sorted: int32, slots by expert; a slot beyond the last is padding.
        experts: int32, each block's expert.
        padded: int32 [1], how many of `sorted` count.
    """

    def __init__(self, ids: Tensor, experts: int, block: int) -> None:
        self.ids, self.count, self.block = ids, experts, block
        slots = ids.numel()
        most = slots + experts * (block - 1)
        if slots < experts:
            most = min(most, slots * block)

        def empty(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.int32, device=ids.device)

        self.sorted, self.experts, self.padded = empty(most), empty(-(-most // block)), empty(1)

    def __call__(self) -> None:
        torch.ops._moe_C.moe_align_block_size(
            self.ids, self.count, self.block, self.sorted, self.experts, self.padded, None, None
        )
