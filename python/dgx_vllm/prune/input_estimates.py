"""Inputs: what reaches experts, as far as a checkpoint tells without running it.

The norm in front of a block of experts gives each channel its size; beyond that channels are taken to be
independent and normally distributed, which those of real models are not. A calibration knows better.
"""

from collections.abc import Callable

import numpy as np
import torch

_NODES = 32
_NORMS = (
    "pre_feedforward_layernorm",
    "pre_mlp_layernorm",
    "ffn_norm",
    "post_attention_layernorm",
)


def norm_names(block: str) -> list[str]:
    """What the weight of the norm in front of a block may be called, the likeliest first.

    Args:
        block: such as `model.layers.3.mlp.experts`.
    """
    words = block.split(".")
    layer = next((i for i, word in enumerate(words) if word.isdigit()), None)
    return [] if layer is None else [".".join((*words[: layer + 1], name, "weight")) for name in _NORMS]


def inner_rms(
    gate: torch.Tensor | None,
    up: torch.Tensor,
    rms: torch.Tensor,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The root mean square of act(gate x) * (up x), or act(up x), for independent normal channels of x.

    The two are jointly normal, so that what is left is one integral over the gate's value, done by Gauss and
    Hermite.

    Args:
        gate, up: [..., intermediate, hidden].
        rms: [hidden].
        activation: of the gate.

    Returns:
        float32 [..., intermediate].
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    z = torch.from_numpy(nodes).to(up)
    share = torch.from_numpy(weights / weights.sum()).to(up)
    a, b = (up if gate is None else gate) * rms, up * rms
    deviation, other = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    power = activation(deviation * z) ** 2
    if gate is not None:
        tiny = torch.finfo(up.dtype).tiny
        correlation = (a * b).sum(dim=-1, keepdim=True) / (deviation * other).clamp(min=tiny)
        square = (correlation**2).clamp(max=1)
        power = power * other**2 * (square * z**2 + 1 - square)
    return (power * share).sum(dim=-1).sqrt()
