"""vLLM's Marlin MoE, called as vLLM 0.32's fused_marlin_moe calls it, out of the extension modules of its wheel.

The modules need torch 2.11 and nothing else of vLLM. A layer's shared expert is two dense Marlin products beside it.
"""

import importlib.util
from pathlib import Path

import torch

E2M1 = 562949953487106  # vLLM's ScalarType.float_(2, 1, finite values only, no NaN).id
GROUP = 16
LOCKS_PER_MULTIPROCESSOR = 4
# What Marlin's decoder leaves to the global scale: BF16's exponent bias less E2M1's, and 2^-7 of its own block scales.
GLOBAL = 2.0 ** (2**7 - 2 - 7)


def load(directory: str) -> None:
    """The operators, from a directory that holds the modules as vLLM's wheel does."""
    for name in ("_C_stable_libtorch", "_moe_C_stable_libtorch"):
        spec = importlib.util.spec_from_file_location(name, Path(directory) / f"{name}.abi3.so")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def block_scales(scales: torch.Tensor, factor: float) -> torch.Tensor:
    """[n, k / 16] E4M3 bytes to Marlin's order and its format of five exponent bits without sign; `factor` makes them large."""
    n = scales.shape[0]
    values = scales.view(torch.float8_e4m3fn).to(torch.bfloat16).T.reshape(-1, 64)
    order = [i + 8 * j for i in range(8) for j in range(8)]
    values = values[:, order].reshape(-1, n).half()
    values = values.view(-1, 4)[:, [0, 2, 1, 3]].view(values.shape[0], -1)
    values = (values.float() * factor).half() * 2**7
    values[values < 2] = 0
    return (values.view(torch.int16) << 1).view(torch.float8_e4m3fn)[:, 1::2].contiguous()


def repack(weight: torch.Tensor) -> torch.Tensor:
    """[n, k / 2] checkpoint bytes to Marlin's tiles."""
    n, k = weight.shape[0], weight.shape[1] * 2
    return torch.ops._C.gptq_marlin_repack(weight.view(torch.int32).T.contiguous(), k, n, 4, False)


class Matrices:
    """One matrix of each expert, [experts, n, k / 2]."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, global_scale: torch.Tensor) -> None:
        self.n, self.k = weight.shape[1], weight.shape[2] * 2
        largest = scale.view(torch.float8_e4m3fn).float().max()
        factor = float((448 / largest).log2().floor().exp2().clamp(min=1))
        self.weight = torch.stack([repack(w) for w in weight])
        self.scale = torch.stack([block_scales(s, factor) for s in scale])
        self.global_scale = global_scale * GLOBAL / factor


class Experts:
    """A layer's experts in Marlin's layout; intermediate a multiple of 64, hidden of 128."""

    def __init__(self, w13, s13, g13, w2, s2, g2) -> None:
        self.gate_up, self.down = Matrices(w13, s13, g13), Matrices(w2, s2, g2)
        self.count = w13.shape[0]


class Call:
    """One layer's launches, with everything that they need kept alive."""

    def __init__(self, routed: Experts, shared: Experts | None, gate: torch.Tensor, x, ids, weights) -> None:
        self.routed, self.shared, self.x, self.ids, self.weights = routed, shared, x, ids, weights
        self.gate = torch.sigmoid(gate)[:, None].to(x.dtype)
        (tokens, hidden), top_k = x.shape, ids.shape[1]
        slots, intermediate = tokens * top_k, routed.down.k
        self.block = next((b for b in (8, 16, 32, 48, 64) if slots / routed.count / b < 0.9), 64)
        padded = min(
            slots + routed.count * (self.block - 1), slots * self.block if slots < routed.count else 1 << 30
        )

        def empty(*shape, dtype=x.dtype):
            return torch.empty(shape, dtype=dtype, device="cuda")

        self.sorted, self.padded = empty(padded, dtype=torch.int32), empty(1, dtype=torch.int32)
        self.blocks = empty(-(-padded // self.block), dtype=torch.int32)
        self.both, self.hidden = empty(slots, 2 * intermediate), empty(slots, intermediate)
        self.products, self.out = empty(slots, hidden), empty(tokens, hidden)
        multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count
        self.locks = torch.zeros(multiprocessors * LOCKS_PER_MULTIPROCESSOR, dtype=torch.int32, device="cuda")
        if shared is not None:
            self.shared_hidden = empty(tokens, shared.down.k)

    def moe(self, x, out, m: Matrices, top_k: int, weigh: bool) -> None:
        torch.ops._moe_C.moe_wna16_marlin_gemm(
            x, out, m.weight, None, m.scale, None, m.global_scale, None, self.locks, self.sorted, self.blocks, self.padded,
            self.weights, self.block, top_k, weigh, E2M1, x.shape[0], m.n, m.k, False, True, False, -1, -1, -1,
        )  # fmt: skip

    def dense(self, x, m: Matrices) -> torch.Tensor:
        return torch.ops._C.marlin_gemm(
            x, None, m.weight[0], None, m.scale[0], None, m.global_scale[:1], None, self.locks, E2M1, x.shape[0], m.n, m.k,
            False, True, False,
        )  # fmt: skip

    def __call__(self) -> torch.Tensor:
        tokens, top_k = self.ids.shape
        torch.ops._moe_C.moe_align_block_size(
            self.ids, self.routed.count, self.block, self.sorted, self.blocks, self.padded, None, None
        )
        self.moe(self.x, self.both, self.routed.gate_up, top_k, False)
        torch.ops._C.silu_and_mul(self.hidden, self.both)
        self.moe(self.hidden, self.products, self.routed.down, 1, True)
        torch.ops._moe_C.moe_sum(self.products.view(tokens, top_k, -1), self.out, None, None)
        if self.shared is not None:
            torch.ops._C.silu_and_mul(self.shared_hidden, self.dense(self.x, self.shared.gate_up))
            self.out.addcmul_(self.dense(self.shared_hidden, self.shared.down), self.gate)
        return self.out
