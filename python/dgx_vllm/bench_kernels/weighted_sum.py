"""The sum of a token's experts, weighted by the router, as one Triton kernel."""

import triton
import triton.language as tl
from torch import Tensor


# Triton reads annotations as its own: pointers have none.
@triton.jit  # type: ignore[untyped-decorator]
def _kernel(products, weights, out, top_k: tl.constexpr, hidden: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0)
    for start in tl.static_range(0, hidden, block):
        columns = start + tl.arange(0, block)
        inside = columns < hidden
        total = tl.zeros((block,), dtype=tl.float32)
        for slot in tl.static_range(top_k):
            row = products + (token * top_k + slot) * hidden
            value = tl.load(row + columns, mask=inside, other=0.0).to(tl.float32)
            total += value * tl.load(weights + token * top_k + slot)
        tl.store(out + token * hidden + columns, total.to(tl.bfloat16), mask=inside)


def weighted_sum(products: Tensor, weights: Tensor, out: Tensor) -> None:
    """out[t] = sum_j weights[t, j] * products[t, j], in float32.

    A block of threads a token, as wide as vLLM's (fused_moe/moe_fused_mul_sum.py).

    Args:
        products: bfloat16 [tokens, top_k, hidden].
        weights: float32 [tokens, top_k].
        out: bfloat16 [tokens, hidden].
    """
    tokens, top_k, hidden = products.shape
    block = min(4096, triton.next_power_of_2(hidden))
    _kernel[(tokens,)](products, weights, out, top_k, hidden, block, num_warps=16)
