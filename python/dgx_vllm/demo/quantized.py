"""Training parameters as the checkpoint will hold them, for quantization-aware training."""

from collections.abc import Mapping

import torch
from torch import nn

from dgx_vllm.demo.export import quantized_modules
from dgx_vllm.formats.nvfp4 import fake_quantize, global_scale


def _round_bfloat16(x: torch.Tensor) -> torch.Tensor:
    """Round to bfloat16 and back, with gradients passed straight through."""
    return x + (x.detach().to(torch.bfloat16).to(x.dtype) - x.detach())


def checkpoint_parameters(model: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """What each parameter becomes once written and read back, differentiable with respect to the parameter.

    Args:
        model: a transformers Qwen3-Next model, or a part of one.
        prefix: what its parameters' names begin with in the checkpoint.

    Returns:
        parameter name -> tensor for `torch.func.functional_call`, same shapes.
    """
    out: dict[str, torch.Tensor] = {}
    named = dict(model.named_parameters())
    shared = _shared_expert_scales(named)
    for name, parameter in named.items():
        # Stacked experts hold one matrix an expert, gate and up in one: any expert's name stands for all.
        expert = name.replace("experts.gate_up_proj", "experts.0.gate_proj.weight")
        expert = expert.replace("experts.down_proj", "experts.0.down_proj.weight")
        if quantized_modules([prefix + expert]):
            out[name] = fake_quantize(parameter, shared.get(name))
        else:
            out[name] = _round_bfloat16(parameter)
    return out


def _shared_expert_scales(named: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Global scales shared by matrices in different parameters: a shared expert's gate_proj and up_proj."""
    out: dict[str, torch.Tensor] = {}
    for gate_name, gate in named.items():
        if gate_name.endswith("shared_expert.gate_proj.weight"):
            up_name = gate_name.replace("gate_proj", "up_proj")
            amax = torch.maximum(gate.detach().abs().amax(), named[up_name].detach().abs().amax())
            out[gate_name] = out[up_name] = global_scale(amax)
    return out
