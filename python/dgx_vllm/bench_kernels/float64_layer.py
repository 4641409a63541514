"""The layer in float64, an expert at a time; it shares no function with what it checks."""

import torch
from torch import Tensor

from dgx_vllm.bench_kernels.layer_inputs import Inputs
from dgx_vllm.bench_kernels.random_experts import Experts, Weights

_E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


def dequantize(packed: Tensor, scales: Tensor) -> Tensor:
    """float64 [rows, columns] of uint8 [rows, columns / 2] and linear scales [rows, columns / 16]."""
    table = torch.tensor(_E2M1, dtype=torch.float64, device=packed.device)
    values = torch.stack([table[(packed & 15).long()], table[(packed >> 4).long()]], -1).flatten(-2)
    return values * scales.view(torch.float8_e4m3fn).double().repeat_interleave(16, -1)


def expert(experts: Experts, which: int, x: Tensor) -> Tensor:
    """float64 [tokens, hidden] of x in float64."""
    both = x @ dequantize(experts.w13[which], experts.s13[which]).T * experts.g13[which].double()
    gate, up = both.chunk(2, -1)
    hidden = gate * torch.sigmoid(gate) * up
    return hidden @ dequantize(experts.w2[which], experts.s2[which]).T * experts.g2[which].double()


def routed(weights: Weights, inputs: Inputs) -> Tensor:
    """What the routed experts give, float64 [tokens, hidden]."""
    x = inputs.x.double()
    out = torch.zeros_like(x)
    for which in inputs.ids.unique().tolist():
        tokens, slots = (inputs.ids == which).nonzero(as_tuple=True)
        factor = inputs.weights[tokens, slots].double()[:, None]
        out.index_add_(0, tokens, expert(weights.routed, which, x[tokens]) * factor)
    return out


def shared(weights: Weights, inputs: Inputs) -> Tensor:
    """What the shared expert adds, float64 [tokens, hidden]."""
    return torch.sigmoid(inputs.x.double() @ inputs.gate.double())[:, None] * expert(
        weights.shared, 0, inputs.x.double()
    )


def relative_l2(out: Tensor, expected: Tensor) -> float:
    """|out - expected| / |expected|; NaN where out holds one."""
    return float((out.double() - expected).norm() / expected.norm())
