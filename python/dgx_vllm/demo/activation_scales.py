"""Largest activations that reach the quantized layers, from which `input_scale` is set."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextExperts

Hook = Callable[[nn.Module, tuple[Any, ...]], None]


def input_amax(
    model: nn.Module, batches: Iterable[torch.Tensor], modules: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Run the model and record.

    Args:
        model: the transformers model; its routed experts are stacked modules named `...mlp.experts`.
        batches: token ids int64 [batch, length].
        modules: checkpoint module names to report; experts as `...mlp.experts.3.down_proj`.

    Returns:
        module -> float32 scalar. An expert that no token reached has its layer's largest.
    """
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, x: torch.Tensor) -> None:
        if x.numel():
            peak = x.detach().abs().amax().to(torch.float32)
            seen[name] = torch.maximum(seen[name], peak) if name in seen else peak

    def linear_hook(name: str) -> Hook:
        return lambda module, args: note(name, args[0])

    def experts_hook(name: str) -> Hook:
        def hook(experts: nn.Module, args: tuple[Any, ...]) -> None:
            assert isinstance(experts, Qwen3NextExperts)
            x, chosen, _ = args
            for expert in range(experts.num_experts):
                tokens = x[(chosen == expert).any(dim=-1)]
                gate, up = nn.functional.linear(tokens, experts.gate_up_proj[expert]).chunk(2, dim=-1)
                inner = nn.functional.silu(gate) * up
                for leaf, value in (("gate_proj", tokens), ("up_proj", tokens), ("down_proj", inner)):
                    note(f"{name}.{expert}.{leaf}", value)
                    note(f"{name}.{leaf}", value)

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Qwen3NextExperts):
            handles.append(module.register_forward_pre_hook(experts_hook(name)))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(linear_hook(name)))
    try:
        with torch.no_grad():
            for ids in batches:
                model(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()

    def layer_peak(name: str) -> torch.Tensor:
        parent, _, leaf = name.rpartition(".")
        return seen[f"{parent.rpartition('.')[0]}.{leaf}"]

    return {name: seen[name] if name in seen else layer_peak(name) for name in modules}
