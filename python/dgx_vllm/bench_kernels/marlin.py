"""vLLM's Marlin, called as vLLM 0.32 calls it for NVFP4 (fused_moe/experts/marlin_moe.py).

A layer is: align, GEMM, SiLU and product, GEMM weighted by the router, sum. Its shared expert is two dense
Marlin products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dgx_vllm.bench_kernels import shared_expert_overlap, vllm_modules
from dgx_vllm.bench_kernels.align import Alignment
from dgx_vllm.bench_kernels.implementation import Case, Layer
from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe

E2M1 = 562949953487106  # vLLM's ScalarType.float_(2, 1, finite values only, no NaN).id
LOCKS_PER_MULTIPROCESSOR = 4
# What Marlin's decoder leaves to the global scale: BF16's exponent bias less E2M1's, and 2^-7 of its own
# block scales.
GLOBAL = 2.0 ** (2**7 - 2 - 7)


def padded_intermediate(hidden: int, intermediate: int) -> int:
    """The experts' intermediate size that Marlin computes with (`prepare_nvfp4_moe_layer_for_marlin`).

    Its tiles are 64 by 128 or 128 by 64, so that a hidden size of the one decides the other.
    """
    tile = 64 if hidden % 128 == 0 else 128
    return -(-intermediate // tile) * tile


def padded(experts: Experts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """w13, s13, w2, s2 with zeros for what Marlin's tiles are wider than the experts."""
    more = padded_intermediate(experts.hidden, experts.intermediate) - experts.intermediate

    def rows(x: Tensor) -> Tensor:
        """Behind the gate's rows and behind the up rows."""
        halves = x.view(experts.count, 2, experts.intermediate, x.shape[-1])
        return functional.pad(halves, (0, 0, 0, more)).flatten(1, 2)

    w2, s2 = functional.pad(experts.w2, (0, more // 2)), functional.pad(experts.s2, (0, more // 16))
    return rows(experts.w13), rows(experts.s13), w2, s2


def block_scales(scales: Tensor, factor: float) -> Tensor:
    """E4M3 bytes [n, k / 16] in Marlin's order and its format of five exponent bits without sign.

    Args:
        factor: makes them large, since that format has no small ones.
    """
    n = scales.shape[0]
    values = scales.view(torch.float8_e4m3fn).to(torch.bfloat16).T.reshape(-1, 64)
    order = [i + 8 * j for i in range(8) for j in range(8)]
    values = values[:, order].reshape(-1, n).half()
    values = values.view(-1, 4)[:, [0, 2, 1, 3]].view(values.shape[0], -1)
    values = (values.float() * factor).half() * 2**7
    values[values < 2] = 0
    return (values.view(torch.int16) << 1).view(torch.float8_e4m3fn)[:, 1::2].contiguous()


def repack(weight: Tensor) -> Tensor:
    """A checkpoint's bytes [n, k / 2] in Marlin's tiles."""
    n, k = weight.shape[0], weight.shape[1] * 2
    return torch.ops._C.gptq_marlin_repack(weight.view(torch.int32).T.contiguous(), k, n, 4, False)


class Matrices:
    """One matrix of each expert, [experts, n, k / 2]; n and k multiples of 64, one of them of 128."""

    def __init__(self, weight: Tensor, scale: Tensor, global_scale: Tensor) -> None:
        self.n, self.k = weight.shape[1], weight.shape[2] * 2
        largest = scale.view(torch.float8_e4m3fn).float().max()
        factor = float((448 / largest).log2().floor().exp2().clamp(min=1))
        self.weight = torch.stack([repack(w) for w in weight])
        self.scale = torch.stack([block_scales(s, factor) for s in scale])
        self.global_scale = global_scale * GLOBAL / factor


class Pair:
    """An expert's two products in Marlin's layout."""

    def __init__(self, experts: Experts) -> None:
        w13, s13, w2, s2 = padded(experts)
        self.count = experts.count
        self.gate_up, self.down = Matrices(w13, s13, experts.g13), Matrices(w2, s2, experts.g2)


def locks(device: torch.device) -> Tensor:
    """Marlin's workspace; products that run at the same time need one each."""
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return torch.zeros(multiprocessors * LOCKS_PER_MULTIPROCESSOR, dtype=torch.int32, device=device)


def dense(x: Tensor, matrices: Matrices, workspace: Tensor) -> Tensor:
    """x @ the first matrix, bfloat16 [tokens, n]."""
    m = matrices
    return torch.ops._C.marlin_gemm(
        *(x, None, m.weight[0], None, m.scale[0], None, m.global_scale[:1], None, workspace, E2M1),
        *(x.shape[0], m.n, m.k, False, True, False),
    )


class Routed:
    """The routed experts of one layer."""

    def __init__(self, pair: Pair, inputs: Inputs) -> None:
        self.pair, self.inputs, self.workspace = pair, inputs, locks(inputs.x.device)
        (tokens, hidden), slots = inputs.x.shape, inputs.ids.numel()
        block = next((b for b in (8, 16, 32, 48, 64) if slots / pair.count / b < 0.9), 64)
        self.alignment = Alignment(inputs.ids, pair.count, block)
        self.both = inputs.x.new_empty(slots, pair.gate_up.n)
        self.hidden = inputs.x.new_empty(slots, pair.down.k)
        self.products, self.out = inputs.x.new_empty(slots, hidden), inputs.x.new_empty(tokens, hidden)

    def multiply(self, x: Tensor, out: Tensor, m: Matrices, top_k: int, weigh: bool) -> None:
        a = self.alignment
        torch.ops._moe_C.moe_wna16_marlin_gemm(
            *(x, out, m.weight, None, m.scale, None, m.global_scale, None, self.workspace),
            *(a.sorted, a.experts, a.padded, self.inputs.weights, a.block, top_k, weigh, E2M1),
            *(x.shape[0], m.n, m.k, False, True, False, -1, -1, -1),
        )

    def __call__(self) -> Tensor:
        tokens, top_k = self.inputs.ids.shape
        self.alignment()
        self.multiply(self.inputs.x, self.both, self.pair.gate_up, top_k, False)
        torch.ops._C.silu_and_mul(self.hidden, self.both)
        self.multiply(self.hidden, self.products, self.pair.down, 1, True)
        torch.ops._moe_C.moe_sum(self.products.view(tokens, top_k, -1), self.out, None, None)
        return self.out


class Shared:
    """The shared expert of one layer."""

    def __init__(self, pair: Pair, x: Tensor) -> None:
        self.pair, self.x, self.workspace = pair, x, locks(x.device)
        self.hidden = x.new_empty(x.shape[0], pair.down.k)

    def __call__(self) -> Tensor:
        torch.ops._C.silu_and_mul(self.hidden, dense(self.x, self.pair.gate_up, self.workspace))
        return dense(self.hidden, self.pair.down, self.workspace)


class Prepared:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.expert_bytes, self.shared_bytes = weights.routed.bytes_each, weights.shared.bytes_each
        self.routed, self.shared = Pair(weights.routed), Pair(weights.shared)

    def layers(self, case: Case, inputs: Inputs) -> Sequence[Layer]:
        if not case.swizzled:  # of our scales alone
            return []
        shared = (lambda: Shared(self.shared, inputs.x)) if case.shared else None
        return shared_expert_overlap.ways(lambda: Routed(self.routed, inputs), shared, inputs.logits)


class Marlin:
    """What vLLM runs NVFP4 on where a GPU has no FP4 tensor cores, and may on a GB10."""

    name = "Marlin"
    tolerance = 2e-2

    def __init__(self) -> None:
        vllm_modules.load()

    def kernel(self, case: Case) -> str:
        return f"{self.name}, {case.name}"

    def prepare(self, weights: Weights, shape: Moe, tokens: Sequence[int]) -> Prepared:
        return Prepared(weights)
