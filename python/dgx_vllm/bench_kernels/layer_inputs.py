"""Inputs: what reaches a layer, and which experts it goes to."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.kernels.moe_layer import Routing


@dataclass(frozen=True)
class Inputs:
    """One layer's.

    Attributes:
        x: bfloat16 [tokens, hidden].
        ids: int32 [tokens, top_k].
        weights: float32 [tokens, top_k], the router's.
        gate: bfloat16 [hidden], whose product with x is the logit of the shared expert's weight.
    """

    x: Tensor
    ids: Tensor
    weights: Tensor
    gate: Tensor

    @property
    def routing(self) -> Routing:
        """Ids and weights, as our kernels take them."""
        return Routing(self.ids, self.weights)

    @property
    def logits(self) -> Tensor:
        """Of the shared expert's weights, float32 [tokens]: peers are given them."""
        return self.x.float() @ self.gate.float()


def distinct(layers: int, tokens: int, shape: Moe, generator: torch.Generator) -> list[Tensor]:
    """Ids by which each slot of a layer has an expert of its own, and layers rotate through all of them."""
    slots, ids_by_layer, deck = tokens * shape.top_k, [], torch.empty(0, dtype=torch.long)
    for _ in range(layers):
        if len(deck) < slots:
            deck = torch.randperm(shape.experts, generator=generator)
        taken, deck = deck[:slots], deck[slots:]
        ids_by_layer.append(taken.view(tokens, shape.top_k).int())
    return ids_by_layer


def independent(layers: int, tokens: int, shape: Moe, generator: torch.Generator) -> list[Tensor]:
    """Ids that each token draws for itself, so that tokens may share experts."""
    return [
        torch.stack(
            [torch.randperm(shape.experts, generator=generator)[: shape.top_k] for _ in range(tokens)]
        ).int()
        for _ in range(layers)
    ]


def draw(shape: Moe, tokens: int, layers: int, *, overlap: bool, device: str = "cuda") -> list[Inputs]:
    """Inputs of `layers` layers: the same arguments give the same inputs to every implementation."""
    draw_ids = independent if overlap else distinct
    ids_by_layer = draw_ids(layers, tokens, shape, torch.Generator().manual_seed(tokens))
    generator = torch.Generator(device).manual_seed(tokens)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=device, generator=generator)

    return [
        Inputs(
            x=normal(tokens, shape.hidden).bfloat16(),
            ids=ids.to(device),
            weights=torch.rand(tokens, shape.top_k, device=device, generator=generator) / shape.top_k,
            gate=(normal(shape.hidden) / shape.hidden**0.5).bfloat16(),
        )
        for ids in ids_by_layer
    ]
