"""From the trained modules to checkpoint tensors: names, and which matrices are quantized."""

import re
from collections.abc import Iterable

import torch
from torch import nn

#: What the shipped Qwen3-Next NVFP4 checkpoint quantizes: routed and shared experts, and the output
#: projections of both kinds of attention. The router, q/k/v and in-projections, lm_head and the whole MTP
#: layer stay BF16.
_QUANTIZED = re.compile(
    r"model\.layers\.\d+\."
    r"(mlp\.(experts\.\d+|shared_expert)\.(gate|up|down)_proj|self_attn\.o_proj|linear_attn\.out_proj)"
)


def checkpoint_tensors(model: nn.Module, mtp: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors under the names of a Qwen3-Next checkpoint, experts one by one.

    transformers stacks a layer's experts: `gate_up_proj` [experts, 2 * intermediate, hidden] and `down_proj`
    [experts, hidden, intermediate].
    """
    state = dict(model.state_dict())
    state.update({f"mtp.{name}": tensor for name, tensor in mtp.state_dict().items()})
    out: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("experts.gate_up_proj"):
            prefix = name.removesuffix(".gate_up_proj")
            for expert, matrix in enumerate(tensor):
                gate, up = matrix.chunk(2)
                out[f"{prefix}.{expert}.gate_proj.weight"] = gate.clone()
                out[f"{prefix}.{expert}.up_proj.weight"] = up.clone()
        elif name.endswith("experts.down_proj"):
            prefix = name.removesuffix(".down_proj")
            for expert, matrix in enumerate(tensor):
                out[f"{prefix}.{expert}.down_proj.weight"] = matrix.clone()
        else:
            out[name] = tensor
    return out


def quantized_modules(names: Iterable[str]) -> list[str]:
    """Those of the checkpoint's tensor names that are matrices to quantize, as module names."""
    modules = (name.removesuffix(".weight") for name in names if name.endswith(".weight"))
    return [module for module in modules if _QUANTIZED.fullmatch(module)]
