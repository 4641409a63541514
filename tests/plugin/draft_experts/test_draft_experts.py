"""A draft's experts with `--moe-backend dgx --dense-dtype fp8`: what they become, when, and who stays.

On a machine that vLLM takes for a GB10; the operators are the reference on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional

from helpers.live_tensors import Live

pytest.importorskip("vllm")

from vllm import platforms
from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4FusedMoE
from vllm.model_executor.layers.quantization.utils.nvfp4_utils import swizzle_blockscale
from vllm.model_executor.model_loader.base_loader import _has_online_quant
from vllm.model_executor.model_loader.reload import finalize_layerwise_processing
from vllm.platforms.interface import DeviceCapability

from dgx_vllm import plugin
from dgx_vllm.formats.dense_dtype import additional_config
from dgx_vllm.formats.nvfp4 import Nvfp4Tensor, dequantize, fitted, quantize
from dgx_vllm.host import meminfo
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.plugin.draft_experts.method import INPUT_SCALE, Nvfp4DraftMethod, RoundingMethod
from dgx_vllm.plugin.moe import select
from dgx_vllm.plugin.moe.experts import DecodeExperts, SlicedExperts
from helpers import tiny_qwen3_next
from helpers.tiny_qwen3_next import EXPERTS, HIDDEN, INTERMEDIATE, TOP_K

pytestmark = pytest.mark.usefixtures("logged", "process_group", "plugin")

BF16 = ["mtp*", "model.layers.3*"]
DRAFT = "mtp.layers.0.mlp"


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    plugin.register()


Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The routed experts of a layer as Qwen3-Next's model makes it, nothing loaded."""

    def routed(prefix: str = DRAFT, moe_backend: str = "dgx", dense_dtype: Any = "fp8", **sizes: int) -> Any:
        block = tiny_qwen3_next.moe_block(
            tmp_path,
            prefix,
            tiny_qwen3_next.nvfp4(*BF16),
            {"moe_backend": moe_backend},
            additional_config(dense_dtype),
            **{"shared_expert_intermediate_size": 0, **sizes},
        )
        return block.experts.routed_experts

    return routed


class Checkpoint:
    """An expert's three matrices each, at random, each expert of another size."""

    def __init__(
        self, hidden: int = HIDDEN, intermediate: int = INTERMEDIATE, experts: int = EXPERTS
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def drawn(rows: int, columns: int) -> list[torch.Tensor]:
            return [
                (torch.randn(rows, columns, generator=generator) * (1 + index) / columns**0.5).bfloat16()
                for index in range(experts)
            ]

        self.gate, self.up = drawn(intermediate, hidden), drawn(intermediate, hidden)
        self.down = drawn(hidden, intermediate)

    def load(self, layer: Any) -> None:
        """As vLLM's loader does."""
        for index in range(len(self.gate)):
            for name, part, shard in (
                ("w13", self.gate, "w1"),
                ("w2", self.down, "w2"),
                ("w13", self.up, "w3"),
            ):
                parameter = getattr(layer, f"{name}_weight")
                parameter.weight_loader(
                    parameter, part[index], f"experts.{index}.{shard}.weight", shard_id=shard, expert_id=index
                )

    @property
    def w13(self) -> list[torch.Tensor]:
        return [torch.cat(pair) for pair in zip(self.gate, self.up, strict=True)]


def finish(layer: Any) -> None:
    """What vLLM does with a model that is loaded, but for devices."""
    model = torch.nn.ModuleList([layer])
    if _has_online_quant(model):
        finalize_layerwise_processing(model, SimpleNamespace(dtype=torch.bfloat16))  # type: ignore[arg-type]
    layer.quant_method.process_weights_after_loading(layer)


def of(matrices: list[torch.Tensor]) -> Nvfp4Tensor:
    return quantize(torch.stack(matrices), scales=fitted)


def kernel(layer: Any) -> Any:
    return layer.quant_method.moe_kernel.fused_experts


def applied(layer: Any, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, what the layer's experts write for it, and which of them were asked for, with what weights."""
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, HIDDEN, generator=generator).bfloat16()
    ids = torch.randint(0, EXPERTS, (tokens, TOP_K), generator=generator)
    weights = torch.rand(tokens, TOP_K, generator=generator)
    out, nothing = torch.full_like(x, float("nan")), torch.empty(0)
    kernel(layer).apply(
        *(out, x, layer.w13_weight, layer.w2_weight, weights, ids, MoEActivation.SILU, EXPERTS),
        *(None, None, None, nothing, nothing, None, False),
    )
    return x, out, ids, weights


@pytest.mark.usefixtures("gb10")
def test_a_draft_becomes_what_the_quantizer_makes_of_it(make: Make, logged: list[str]) -> None:
    """When its last expert is loaded: codes, CUTLASS's layout of the scales, one global scale an expert."""
    layer, checkpoint = make(), Checkpoint()
    assert isinstance(layer.quant_method, Nvfp4DraftMethod)
    assert layer.w13_weight.is_meta
    assert layer.w2_weight.is_meta
    checkpoint.load(layer)
    for part, expected in (("w13", of(checkpoint.w13)), ("w2", of(checkpoint.down))):
        assert torch.equal(getattr(layer, f"{part}_weight"), expected.weight)
        swizzled = swizzle_blockscale(expected.weight_scale)
        assert torch.equal(
            getattr(layer, f"{part}_weight_scale").view(torch.uint8), swizzled.view(torch.uint8)
        )
        assert torch.equal(getattr(kernel(layer), f"{part}_global"), expected.weight_scale_2)
    before = {name: value.clone() for name, value in layer.named_parameters()}
    finish(layer)
    assert all(torch.equal(value, before[name]) for name, value in layer.named_parameters())
    assert logged == []


@pytest.mark.usefixtures("gb10")
@pytest.mark.parametrize("tokens", [1, MAX_TOKENS])
def test_a_few_tokens_get_what_its_nvfp4_stands_for(make: Make, tokens: int) -> None:
    """Against float64 on dequantized weights."""
    layer, checkpoint = make(), Checkpoint()
    checkpoint.load(layer)
    finish(layer)
    x, got, ids, weights = applied(layer, tokens)
    w13, w2 = (dequantize(of(part)).double() for part in (checkpoint.w13, checkpoint.down))
    exact = torch.zeros(x.shape, dtype=torch.float64)
    for token in range(tokens):
        for slot in range(TOP_K):
            expert = ids[token, slot]
            gate, up = (w13[expert] @ x[token].double()).chunk(2)
            exact[token] += weights[token, slot] * (w2[expert] @ (functional.silu(gate) * up))
    assert (got.double() - exact).norm() / exact.norm() < 2**-7


@pytest.mark.usefixtures("gb10")
def test_more_tokens_are_cutlasss_with_the_constant_scale(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(CutlassExpertsFp4, "apply", lambda self, *_: seen.append(self))
    layer, checkpoint = make(), Checkpoint()
    checkpoint.load(layer)
    finish(layer)
    applied(layer, MAX_TOKENS + 1)
    (experts,) = seen
    for scale, alpha, expected in (
        (experts.a1_gscale, experts.g1_alphas, of(checkpoint.w13)),
        (experts.a2_gscale, experts.g2_alphas, of(checkpoint.down)),
    ):
        assert torch.equal(scale, torch.full((EXPERTS,), 1 / INPUT_SCALE))
        assert torch.equal(alpha, expected.weight_scale_2 * INPUT_SCALE)


@pytest.mark.parametrize("size", [1 / 100, 1 / 8, 1.0, 8.0, 32.0])
def test_the_constant_scale_is_as_good_as_calibration(size: float) -> None:
    """Over four orders of magnitude: what is calibrated is the largest value of all."""
    x = size * torch.randn(64, 512, generator=torch.Generator().manual_seed(0))

    def error(held: Nvfp4Tensor) -> float:
        return ((dequantize(held) - x).norm() / x.norm()).item()

    assert error(quantize(x, torch.tensor(INPUT_SCALE))) < 1.03 * error(quantize(x))


@pytest.mark.usefixtures("gb10")
def test_on_hopper_the_kernel_serves_all_calls(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        type(platforms.current_platform),
        "get_device_capability",
        classmethod(lambda cls, device_id=0: DeviceCapability(9, 0)),
    )
    layer = make()
    Checkpoint().load(layer)
    finish(layer)
    assert isinstance(kernel(layer), SlicedExperts)
    _, out, _, _ = applied(layer, MAX_TOKENS + 1)
    assert out.isfinite().all()


@pytest.mark.usefixtures("gb10")
def test_a_checkpoint_of_2_4_does_not_make_its_draft_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "_pruned", lambda: True)
    assert make(hidden_size=256, moe_intermediate_size=256).quant_method.experts_cls is DecodeExperts


@pytest.mark.usefixtures("gb10")
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"prefix": "model.layers.3.mlp"}, UnquantizedFusedMoEMethod),
        ({"moe_backend": "auto"}, UnquantizedFusedMoEMethod),
        ({"dense_dtype": "bf16"}, UnquantizedFusedMoEMethod),
        ({"prefix": "model.layers.0.mlp"}, ModelOptNvFp4FusedMoE),
    ],
    ids=str,
)
def test_others_stay(make: Make, changes: dict[str, Any], kind: type, logged: list[str]) -> None:
    """A model's own experts in BF16, a draft's without one of the two flags, and what is NVFP4 already."""
    layer = make(**changes)
    assert type(layer.quant_method) is kind
    assert not layer.w13_weight.is_meta
    assert logged == []


@pytest.mark.usefixtures("gb10")
def test_sizes_that_the_kernel_does_not_take(make: Make, logged: list[str]) -> None:
    for _ in range(2):
        assert isinstance(make(moe_intermediate_size=96).quant_method, UnquantizedFusedMoEMethod)
    why = "the intermediate size 96 is not a multiple of 64"
    assert logged == [f"moe_backend 'dgx' leaves a layer to vLLM: {why}"]


def in_bf16(layer: Any, checkpoint: Checkpoint) -> bool:
    return (
        isinstance(layer.quant_method, UnquantizedFusedMoEMethod)
        and torch.equal(layer.w13_weight, torch.stack(checkpoint.w13))
        and torch.equal(layer.w2_weight, torch.stack(checkpoint.down))
    )


@pytest.mark.usefixtures("gb10")
def test_without_the_memory_a_draft_stays(
    make: Make, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, checkpoint = make(), Checkpoint()
    monkeypatch.setattr(meminfo, "available", lambda: 1_000)
    checkpoint.load(layer)
    assert in_bf16(layer, checkpoint)
    (line,) = logged
    assert re.fullmatch(
        r"moe_backend 'dgx' leaves mtp\.layers\.0\.mlp\.experts in BF16: "
        r"quantizing it takes \d+\.\d MB, and 0\.0 MB are free",
        line,
    )


@pytest.mark.usefixtures("gb10")
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_stay(make: Make, value: float, logged: list[str]) -> None:
    layer, checkpoint = make(), Checkpoint()
    checkpoint.down[2][5, 3] = value
    checkpoint.load(layer)
    assert isinstance(layer.quant_method, UnquantizedFusedMoEMethod)
    assert torch.equal(layer.w13_weight, torch.stack(checkpoint.w13))
    why = "it holds weights that are not finite"
    assert logged == [f"moe_backend 'dgx' leaves mtp.layers.0.mlp.experts in BF16: {why}"]


@pytest.mark.usefixtures("gb10")
def test_a_layer_whose_shared_expert_is_a_slot_cannot_go_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make()
    layer.__dict__["shared_slot"] = object()
    monkeypatch.setattr(meminfo, "available", lambda: 1_000)
    with pytest.raises(ValueError, match=r"mtp\.layers\.0\.mlp\.experts cannot become NVFP4: quantizing"):
        Checkpoint().load(layer)


@pytest.mark.usefixtures("gb10")
def test_no_more_than_the_layer_in_both_formats_is_there(make: Make) -> None:
    """Bytes at the worst moment of making and loading, beside the checkpoint's own."""
    sizes = {"hidden_size": 256, "moe_intermediate_size": 128, "num_experts": 32}
    checkpoint = Checkpoint(256, 128, 32)
    values = 32 * 3 * 256 * 128
    with Live() as live:
        layer = make(**sizes)
        made = live.peak
        checkpoint.load(layer)
        finish(layer)
    room = layer.quant_method.room(
        SimpleNamespace(w13_weight=torch.stack(checkpoint.w13), w2_weight=torch.stack(checkpoint.down))
    )
    assert made < values / 8
    small = 2**16
    assert live.bytes < values * 9 / 16 + small
    assert 2 * values < live.peak < 2 * values + room + small


def test_on_a_cpu_its_values_are_nvfp4s(make: Make, logged: list[str]) -> None:
    layer, checkpoint = make(), Checkpoint()
    assert isinstance(layer.quant_method, RoundingMethod)
    checkpoint.load(layer)
    for weight, part in ((layer.w13_weight, checkpoint.w13), (layer.w2_weight, checkpoint.down)):
        assert torch.equal(weight, dequantize(of(part), torch.bfloat16))
    assert isinstance(layer.quant_method, UnquantizedFusedMoEMethod)
    finish(layer)
    assert logged == []
