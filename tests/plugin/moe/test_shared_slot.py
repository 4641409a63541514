"""The shared expert of Qwen3-Next's layers as a slot of `moe_decode`: when, what it computes, and when not.

On a machine that vLLM takes for a GB10; the operators are the reference on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

pytest.importorskip("vllm")

from vllm.model_executor.kernels.linear import CutlassNvFp4LinearKernel
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.models.qwen3_next import Qwen3NextSparseMoeBlock

from dgx_vllm import plugin
from dgx_vllm.kernels import reference
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.kernels.moe_layer import ExpertWeights, Routing
from dgx_vllm.plugin.moe import runner
from dgx_vllm.plugin.moe.experts import DecodeExperts
from dgx_vllm.plugin.moe.experts_24 import SparseDecodeExperts
from dgx_vllm.plugin.moe.shared_slot import refusals
from helpers import tiny_qwen3_next
from helpers.tiny_qwen3_next import EXPERTS, HIDDEN, TOP_K

pytestmark = pytest.mark.usefixtures("logged", "process_group", "plugin", "gb10")

SHARED = 192


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    plugin.register()


LEAVES = "moe_backend 'dgx' leaves model.layers.*.mlp.experts's shared expert to vLLM"

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A layer of experts as Qwen3-Next's model makes it, its weights not loaded."""

    def block(
        moe_backend: str = "dgx", linear_backend: str = "auto", **sizes: int
    ) -> Qwen3NextSparseMoeBlock:
        return tiny_qwen3_next.moe_block(
            tmp_path,
            "model.layers.0.mlp",
            tiny_qwen3_next.nvfp4(),
            {"moe_backend": moe_backend, "linear_backend": linear_backend},
            **{"shared_expert_intermediate_size": SHARED, **sizes},
        )

    return block


def load(block: Qwen3NextSparseMoeBlock) -> None:
    """Weights at random, and what vLLM makes of them after loading."""
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        if parameter.dtype == torch.uint8:
            drawn = torch.randint(0, 256, parameter.shape, dtype=torch.uint8, generator=generator)
        elif parameter.dtype == torch.float8_e4m3fn:
            codes = torch.randint(0x30, 0x48, parameter.shape, dtype=torch.uint8, generator=generator)
            drawn = codes.view(torch.float8_e4m3fn)
        elif parameter.dtype == torch.float32:
            # One for gate and up, as vLLM wants it.
            drawn = torch.full(parameter.shape, 0.01)
        else:
            drawn = torch.randn(parameter.shape, generator=generator) / HIDDEN**0.5
        parameter.data.copy_(drawn)
    for layer in (
        block.shared_expert.gate_up_proj,
        block.shared_expert.down_proj,
        block.experts.routed_experts,
    ):
        layer.quant_method.process_weights_after_loading(layer)


def served(
    block: Qwen3NextSparseMoeBlock, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the layer's experts write for x, and which they were asked for."""
    generator = torch.Generator().manual_seed(len(x))
    ids = torch.randint(0, EXPERTS, (len(x), TOP_K), generator=generator)
    weights = torch.rand(len(x), TOP_K, generator=generator)
    routed = block.experts.routed_experts
    kernel = routed.quant_method.moe_kernel
    assert kernel is not None
    out, nothing = torch.full_like(x, float("nan")), torch.empty(0)
    kernel.fused_experts.apply(
        *(out, x, routed.w13_weight, routed.w2_weight, weights, ids, MoEActivation.SILU, EXPERTS),
        *(None, None, None, nothing, nothing, None, False),
    )
    return out, ids, weights


def dense(layer: Any) -> torch.Tensor:
    return reference.weight(layer.weight, layer.weight_scale, layer.weight_global_scale)


def shared_by_hand(block: Qwen3NextSparseMoeBlock, x: torch.Tensor) -> torch.Tensor:
    """sigmoid(gate . x) * down(silu(gate(x)) * up(x)), float32."""
    shared = block.shared_expert
    gate, up = functional.linear(x.float(), dense(shared.gate_up_proj)).chunk(2, dim=-1)
    out = functional.linear(functional.silu(gate) * up, dense(shared.down_proj))
    return out * functional.linear(x.float(), block.shared_expert_gate.weight.float()).sigmoid()


def routed_by_hand(
    block: Qwen3NextSparseMoeBlock, x: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    routed = block.experts.routed_experts
    kernel = routed.quant_method.moe_kernel
    assert kernel is not None
    ours: Any = kernel.fused_experts
    w13 = routed.w13_weight, ours.w1_scale, ours.w13_global
    w2 = routed.w2_weight, ours.w2_scale, ours.w2_global
    return reference.moe_decode(x, ExpertWeights(*w13, *w2), Routing(ids.int(), weights), None, "silu")


@pytest.mark.parametrize("tokens", [1, MAX_TOKENS])
def test_a_few_tokens_get_it_in_the_same_call(make: Make, tokens: int) -> None:
    block = make()
    load(block)
    x = torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16()
    got, ids, weights = served(block, x)
    shared, routed = shared_by_hand(block, x), routed_by_hand(block, x, ids, weights)
    assert (shared.norm() / routed.norm()).item() > 0.1  # it would be missed
    error = (got.float() - shared - routed).norm() / (shared + routed).norm()
    assert error < 2**-7


def test_what_the_kernel_reads_is_the_layers(make: Make) -> None:
    """Loading anew, vLLM copies into a layer's parameters, whose addresses CUDA graphs hold."""
    block = make()
    load(block)
    routed = block.experts.routed_experts
    ours: Any = routed.quant_method.moe_kernel.fused_experts
    held = {parameter.data_ptr() for parameter in routed.parameters()}
    assert {each.data_ptr() for each in (ours.w13_global, ours.w2_global)} <= held


def test_more_tokens_get_vllms_layers_and_their_sum(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def cutlass_experts(self: Any, output: torch.Tensor, *_: Any) -> None:
        output.fill_(0.25)

    def cutlass_linear(self: Any, layer: Any, x: torch.Tensor, bias: Any = None) -> torch.Tensor:
        return functional.linear(x.float(), dense(layer)).to(x.dtype)

    monkeypatch.setattr(CutlassExpertsFp4, "apply", cutlass_experts)
    monkeypatch.setattr(CutlassNvFp4LinearKernel, "apply_weights", cutlass_linear)
    block = make()
    load(block)
    x = torch.randn(MAX_TOKENS + 1, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16()
    got, _, _ = served(block, x)
    shared = shared_by_hand(block, x)
    assert shared.abs().max() > 0.25
    error = (got.float() - shared - 0.25).norm() / shared.norm()
    assert error < 2**-6


def test_vllm_sees_a_layer_without_a_shared_expert(make: Make, logged: list[str]) -> None:
    block = make()
    assert block.experts.shared_experts is None
    assert block.experts._forward_entry is torch.ops.vllm.moe_forward
    assert logged == []
    # Its weights are the model's as ever, and counted once.
    names = [name for name, _ in block.named_parameters()]
    assert len([name for name in names if "down_proj.weight_scale_2" in name]) == 1


def test_without_being_asked_it_stays_vllms(make: Make, logged: list[str]) -> None:
    block = make("auto")
    assert block.experts.shared_experts is not None
    assert block.experts._forward_entry is torch.ops.vllm.moe_forward_shared
    assert logged == []


def leaves(block: Any, why: str, logged: list[str]) -> bool:
    stays = block.experts.shared_experts is not None
    return stays and logged == [f"{LEAVES}: {why}"]


def test_layers_in_another_layout(make: Make, logged: list[str]) -> None:
    block = make(linear_backend="emulation")
    assert leaves(block, "its layers are served by EmulationNvFp4LinearKernel", logged)


def test_routed_experts_that_are_not_ours(make: Make, logged: list[str]) -> None:
    block = make(moe_intermediate_size=96)
    assert block.experts.shared_experts is not None
    assert logged[-1] == f"{LEAVES}: the routed experts are not ours"


def test_a_size_that_the_kernel_does_not_take(make: Make, logged: list[str]) -> None:
    block = make(shared_expert_intermediate_size=96)
    assert leaves(block, "its size 96 is not a multiple of 64", logged)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"apply_router_weight_on_input": True}, "the routed experts' input carries the router's weights"),
        ({"activation": MoEActivation.GELU}, "the routed experts' gate is gelu and its own silu"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_experts_that_compute_otherwise(make: Make, change: dict[str, Any], why: str) -> None:
    block = make()
    experts = block.experts.routed_experts
    for name, value in change.items():
        setattr(experts, name, value)
    assert list(refusals(block.shared_expert, experts)) == [why]


def test_experts_in_tiles_of_2_of_4(make: Make) -> None:
    block = make()
    block.experts.routed_experts.quant_method.experts_cls = SparseDecodeExperts
    reasons = list(refusals(block.shared_expert, block.experts.routed_experts))
    assert reasons == ["the routed experts are kept in tiles of 2:4"]


@pytest.mark.parametrize("change", [{"dp_size": 2}, {"pcp_size": 2}, {"sp_size": 2}], ids=str)
def test_ranks_that_exchange_tokens(make: Make, change: dict[str, int]) -> None:
    block = make()
    config = block.experts.routed_experts.moe_config
    config.moe_parallel_config = replace(config.moe_parallel_config, **change)
    assert list(refusals(block.shared_expert, block.experts.routed_experts)) == ["ranks exchange tokens"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"routed_scaling_factor": 2.5}, "the routed experts' sum is scaled"),
        ({"routed_input_transform": torch.nn.Identity()}, "the routed experts work in a space of their own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_runner_that_does_more_than_add(
    make: Make, given: dict[str, Any], why: str, logged: list[str]
) -> None:
    block = make()
    assert not runner.takes(block.experts.routed_experts, block.shared_expert, **given)
    assert logged == [f"{LEAVES}: {why}"]


def test_a_shared_expert_of_another_kind(make: Make) -> None:
    block = make()
    assert issubclass(block.experts.routed_experts.quant_method.experts_cls, DecodeExperts)
    reasons = list(refusals(torch.nn.Linear(1, 1), block.experts.routed_experts))
    assert reasons == ["Linear is not known to be gate, up, SiLU and down"]
