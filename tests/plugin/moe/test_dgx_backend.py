"""`--moe-backend dgx` on a GB10: which layers get the decode kernel, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from vllm import platforms
from vllm.model_executor.layers.fused_moe.activation import MoEActivation
from vllm.model_executor.layers.fused_moe.config import (
    FusedMoEConfig,
    FusedMoEParallelConfig,
    RoutingMethodType,
    nvfp4_moe_quant_config,
)
from vllm.model_executor.layers.fused_moe.experts import flashinfer_cutlass_moe
from vllm.model_executor.layers.fused_moe.experts.cutlass_moe import CutlassExpertsFp4
from vllm.model_executor.layers.fused_moe.oracle import nvfp4 as oracle
from vllm.model_executor.layers.fused_moe.oracle.nvfp4 import NvFp4MoeBackend, select_nvfp4_moe_backend
from vllm.model_executor.layers.quantization.utils.quant_utils import kNvfp4Dynamic, kNvfp4Static
from vllm.platforms.interface import DeviceCapability

from dgx_vllm.formats.nvfp4 import pack, tiles, unpack
from dgx_vllm.formats.nvfp4.sparsity_pattern import TWO_OF_FOUR
from dgx_vllm.kernels import operators
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.kernels.moe_layer import ExpertWeights, Routing
from dgx_vllm.plugin.moe import select
from dgx_vllm.plugin.moe.experts import DecodeExperts, SlicedExperts
from dgx_vllm.plugin.moe.experts_24 import (
    MAX_SPARSE_TOKENS,
    SparseDecodeExperts,
    SparseExperts,
    SparseSlicedExperts,
)

pytestmark = pytest.mark.usefixtures("logged", "on_gb10", "library", "plugin")

PARALLEL = FusedMoEParallelConfig.make_no_parallel()


def layer(**changes: Any) -> FusedMoEConfig:
    """The experts of Qwen3-Next-80B-A3B on one GPU, but for `changes`."""
    fields: dict[str, Any] = {
        "num_experts": 512,
        "experts_per_token": 10,
        "hidden_dim": 2048,
        "intermediate_size": 512,
        "num_local_experts": 512,
        "num_logical_experts": 512,
        "activation": MoEActivation.SILU,
        "device": "cpu",
        "routing_method": RoutingMethodType.Renormalize,
        "moe_parallel_config": PARALLEL,
        "in_dtype": torch.bfloat16,
        "moe_backend": "dgx",
    }
    return FusedMoEConfig(**{**fields, **changes})


@pytest.fixture(autouse=True)
def without_flashinfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flashinfer_cutlass_moe, "has_flashinfer_cutlass_fused_moe", lambda: False)


def of_gpu(monkeypatch: pytest.MonkeyPatch, *capability: int) -> None:
    monkeypatch.setattr(
        type(platforms.current_platform),
        "get_device_capability",
        classmethod(lambda cls, device_id=0: DeviceCapability(*capability)),
    )


def chosen(config: FusedMoEConfig, activation_key: Any = kNvfp4Dynamic) -> tuple[NvFp4MoeBackend, type]:
    return select_nvfp4_moe_backend(config, kNvfp4Static, activation_key)


def test_the_plugin_is_found_by_its_entry_point(logged: list[str]) -> None:
    """The backend is CUTLASS's, whose layout the weights are brought into."""
    oracle._plugins.cache_clear()
    assert chosen(layer()) == (NvFp4MoeBackend.VLLM_CUTLASS, DecodeExperts)
    assert logged == []


def test_without_being_asked_it_stays_out() -> None:
    assert chosen(layer(moe_backend="auto")) == (NvFp4MoeBackend.VLLM_CUTLASS, CutlassExpertsFp4)


def test_other_schemes_see_auto() -> None:
    config = layer()
    assert (config.moe_backend, config.prefers_dgx) == ("auto", True)
    assert replace(config).prefers_dgx


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hidden_dim": 2080}, "the hidden size 2080 is not a multiple of 64"),
        ({"hidden_dim": 16448}, "the hidden size 16448 is more than 16384"),
        ({"intermediate_size": 480}, "the intermediate size 480 is not a multiple of 64"),
        (
            {"moe_parallel_config": replace(PARALLEL, tp_size=16)},
            "the intermediate size 32 is not a multiple of 64",
        ),
        ({"experts_per_token": 33}, "33 experts a token are more than 32"),
        ({"in_dtype": torch.float16}, "activations are torch.float16 and not torch.bfloat16"),
        ({"activation": MoEActivation.RELU2}, "kernel does not support MoEActivation.RELU2 activation"),
        ({"activation": MoEActivation.RELU2_NO_MUL}, "kernel does not support no act_and_mul MLP layer"),
        ({"has_bias": True}, "the experts have a bias"),
        ({"swiglu_limit": 7.0}, "the model's SwiGLU is clamped or scaled"),
        ({"is_lora_enabled": True}, "kernel does not support LoRA"),
        (
            {"moe_parallel_config": replace(PARALLEL, enable_eplb=True)},
            "EPLB moves experts, and the kernel's copy of their global scales would stay",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_layer_that_it_cannot_serve_is_vllms_with_one_line(
    changes: dict[str, Any], why: str, logged: list[str]
) -> None:
    config = layer(**changes)
    for _ in range(3):  # layers of a model
        assert (
            select.select(config, kNvfp4Static, kNvfp4Dynamic, CutlassExpertsFp4.activation_format()) is None
        )
    assert logged == [f"moe_backend 'dgx' leaves a layer to vLLM: {why}"]


def test_what_it_leaves_is_selected_automatically(logged: list[str]) -> None:
    assert chosen(layer(hidden_dim=2080)) == (NvFp4MoeBackend.VLLM_CUTLASS, CutlassExpertsFp4)
    assert len(logged) == 1


def test_weights_alone_in_fp4_are_not_for_it(logged: list[str]) -> None:
    """Its prefill would quantize activations, which a W4A16 checkpoint does not ask for."""
    assert not issubclass(chosen(layer(), None)[1], DecodeExperts)
    assert "quantization scheme" in logged[0]


def test_without_its_library_it_stays_out(library: Path, logged: list[str]) -> None:
    library.unlink()
    assert chosen(layer())[1] is CutlassExpertsFp4
    assert logged == [f"moe_backend 'dgx' leaves a layer to vLLM: there is no kernel library {library}"]


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), SlicedExperts), ((12, 0), None), ((10, 0), None)]
)
def test_only_gpus_of_the_kernels_get_their_experts(
    capability: tuple[int, int], expected: type | None, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    of_gpu(monkeypatch, *capability)
    got = select.select(layer(), kNvfp4Static, kNvfp4Dynamic, CutlassExpertsFp4.activation_format())
    assert got is expected
    shown = "{}.{}".format(*capability)
    refusal = f"its kernels are for compute capability 12.1 (9.0 to verify), not {shown}"
    assert logged == ([] if expected else [f"moe_backend 'dgx' leaves a layer to vLLM: {refusal}"])


def checkpoint(monkeypatch: pytest.MonkeyPatch, *, of_text: bool = False, **sparsity: Any) -> None:
    """What vLLM's config of a checkpoint holds that says so of itself, or `of_text` of its language model."""
    said = {"quant_method": "modelopt", "weight_sparsity": {"method": "activation", **sparsity}}
    hf_config = SimpleNamespace(quantization_config=said)
    if of_text:
        hf_config = SimpleNamespace(text_config=hf_config)
    config = SimpleNamespace(model_config=SimpleNamespace(hf_config=hf_config))
    monkeypatch.setattr(select, "get_current_vllm_config_or_none", lambda: config)


@pytest.mark.parametrize(
    ("capability", "expected"), [((12, 1), SparseDecodeExperts), ((9, 0), SparseSlicedExperts)]
)
def test_a_pruned_checkpoint_is_kept_compressed(
    capability: tuple[int, int], expected: type, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    checkpoint(monkeypatch, pattern="2:4", targets=["routed_experts"])
    of_gpu(monkeypatch, *capability)
    assert chosen(layer()) == (NvFp4MoeBackend.VLLM_CUTLASS, expected)
    assert logged == []


def test_a_pruned_checkpoint_may_say_so_of_its_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(monkeypatch, of_text=True, pattern="2:4", targets=["routed_experts"])
    assert chosen(layer())[1] is SparseDecodeExperts


@pytest.mark.parametrize(
    "sparsity",
    [
        {"pattern": "4:8-pairs", "targets": ["routed_experts"]},
        {"pattern": "2:4", "targets": ["shared_expert"]},
    ],
    ids=str,
)
def test_other_sparsity_is_read_like_other_weights(
    sparsity: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(monkeypatch, **sparsity)
    assert chosen(layer())[1] is DecodeExperts


def test_sizes_that_are_no_whole_tiles_stay_uncompressed(
    monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    checkpoint(monkeypatch, pattern="2:4", targets=["routed_experts"])
    assert chosen(layer(intermediate_size=704))[1] is DecodeExperts
    why = "the intermediate size 704 is not a multiple of 256"
    assert logged == [f"moe_backend 'dgx' leaves weights of 2:4 uncompressed: {why}"]


HIDDEN, INTERMEDIATE, EXPERTS = 256, 256, 4


class Layer(torch.nn.Module):
    """What vLLM's method leaves in a layer of experts: packed weights and swizzled scales, all at random.

    With `sparse` two of every four values are zero.
    """

    layer_name = "model.layers.3.mlp.experts"

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def codes(*shape: int) -> torch.Tensor:
            drawn = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            if not sparse:
                return drawn
            of_four = unpack(drawn)
            return pack(of_four * TWO_OF_FOUR.keep(torch.rand(of_four.shape, generator=generator)))

        def scales(*shape: int) -> torch.Tensor:
            drawn = torch.randint(0x30, 0x48, shape, dtype=torch.uint8, generator=generator)
            return drawn.view(torch.float8_e4m3fn)

        for name, value in {
            "w13_weight": codes(EXPERTS, 2 * INTERMEDIATE, HIDDEN // 2),
            "w13_weight_scale": scales(EXPERTS, 2 * INTERMEDIATE, HIDDEN // 16),
            "w13_weight_scale_2": torch.rand(EXPERTS, generator=generator),
            "w13_input_scale": torch.rand(EXPERTS, generator=generator),
            "w2_weight": codes(EXPERTS, HIDDEN, INTERMEDIATE // 2),
            "w2_weight_scale": scales(EXPERTS, HIDDEN, INTERMEDIATE // 16),
            "w2_weight_scale_2": torch.rand(EXPERTS, generator=generator),
            "w2_input_scale": torch.rand(EXPERTS, generator=generator),
        }.items():
            setattr(self, name, torch.nn.Parameter(value, requires_grad=False))


class Call:
    """One layer, and what its experts are called with."""

    def __init__(self, kind: type[DecodeExperts], tokens: int) -> None:
        self.layer = held = Layer(sparse=issubclass(kind, SparseExperts))
        self.dense = {name: parameter.data.clone() for name, parameter in held.named_parameters()}
        config = layer(
            num_experts=EXPERTS,
            num_local_experts=EXPERTS,
            num_logical_experts=EXPERTS,
            hidden_dim=HIDDEN,
            intermediate_size=INTERMEDIATE,
        )
        self.experts = kind(
            config,
            nvfp4_moe_quant_config(
                g1_alphas=held.w13_weight_scale_2,
                g2_alphas=held.w2_weight_scale_2,
                a1_gscale=1 / held.w13_input_scale,
                a2_gscale=1 / held.w2_input_scale,
                w1_scale=held.w13_weight_scale,
                w2_scale=held.w2_weight_scale,
            ),
        )
        self.globals = held.w13_weight_scale_2.clone(), held.w2_weight_scale_2.clone()
        self.experts.process_weights_after_loading(held)
        generator = torch.Generator().manual_seed(tokens)
        self.x = torch.randn(tokens, HIDDEN, generator=generator).bfloat16()
        self.ids = torch.randint(0, EXPERTS, (tokens, 2), generator=generator)
        self.weights = torch.rand(tokens, 2, generator=generator)
        self.map = torch.tensor([1, -1, 0, 2], dtype=torch.int32)

    def __call__(self, weight_on_input: bool = False) -> torch.Tensor:
        out = torch.full_like(self.x, float("nan"))
        self.experts.apply(
            out,
            self.x,
            self.layer.w13_weight,
            self.layer.w2_weight,
            self.weights,
            self.ids,
            MoEActivation.SILU,
            EXPERTS,
            self.map,
            None,
            None,
            torch.empty(0),
            torch.empty(0),
            None,
            weight_on_input,
        )
        return out

    def expected(self, weights: torch.Tensor) -> torch.Tensor:
        """By the operator, on the checkpoint's own weights and global scales."""
        out = torch.empty_like(self.x)
        routed = ExpertWeights(
            w13=self.dense["w13_weight"],
            w13_scale=self.dense["w13_weight_scale"],
            w13_global=self.globals[0],
            w2=self.dense["w2_weight"],
            w2_scale=self.dense["w2_weight_scale"],
            w2_global=self.globals[1],
        )
        operators.moe_decode(out, self.x, routed, Routing(self.ids.int(), weights, self.map), None, "silu")
        return out


@pytest.mark.parametrize("kind", [DecodeExperts, SparseDecodeExperts])
@pytest.mark.parametrize("tokens", [1, MAX_TOKENS])
def test_a_few_tokens_get_the_kernel(kind: type[DecodeExperts], tokens: int) -> None:
    call = Call(kind, tokens)
    assert torch.equal(call(), call.expected(call.weights))


def test_a_weight_that_is_on_the_input_counts_once() -> None:
    call = Call(DecodeExperts, 3)
    assert torch.equal(call(weight_on_input=True), call.expected(torch.ones_like(call.weights)))


@pytest.mark.parametrize("weight_on_input", [False, True])
def test_more_tokens_are_vllms_on_the_same_weights(
    weight_on_input: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUTLASS gets the tensors that the kernel reads, no copies, and scales with the activations' in them."""
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(CutlassExpertsFp4, "apply", lambda self, *arguments: seen.append(arguments))
    call = Call(DecodeExperts, MAX_TOKENS + 1)
    call(weight_on_input)
    ((_, x, w13, w2, weights, *_, on_input),) = seen
    assert x is call.x
    assert (w13.data_ptr(), w2.data_ptr()) == (
        call.layer.w13_weight.data_ptr(),
        call.layer.w2_weight.data_ptr(),
    )
    assert torch.equal(weights, torch.ones_like(weights) if weight_on_input else call.weights)
    assert on_input is weight_on_input
    assert call.experts.g1_alphas is not None
    assert torch.equal(call.experts.g1_alphas, call.globals[0] * call.layer.w13_input_scale)
    assert torch.equal(call.experts.w13_global, call.globals[0])


@pytest.fixture
def scratches(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """None yet, as in a new process."""
    monkeypatch.setattr(SparseDecodeExperts, "scratches", {})
    return SparseDecodeExperts.scratches


def test_more_tokens_uncompress_into_one_scratch_for_all_layers(
    monkeypatch: pytest.MonkeyPatch, scratches: dict[Any, Any]
) -> None:
    """CUTLASS gets each layer's own weights and scales, bit by bit, at the same addresses."""
    seen: list[tuple[torch.Tensor, ...]] = []

    def cutlass(
        self: CutlassExpertsFp4, output: Any, x: Any, w1: torch.Tensor, w2: torch.Tensor, *_: Any
    ) -> None:
        assert self.w1_scale is not None
        assert self.w2_scale is not None
        seen.append((w1, self.w1_scale, w2, self.w2_scale))

    monkeypatch.setattr(CutlassExpertsFp4, "apply", cutlass)
    calls = [Call(SparseDecodeExperts, MAX_SPARSE_TOKENS + 1) for _ in range(2)]
    calls[1].dense["w2_weight"] = changed = calls[1].dense["w2_weight"].roll(1, dims=1)
    calls[1].layer.w2_weight.data = operators.compress_24(changed, calls[1].dense["w2_weight_scale"], False)
    for call in (*calls, calls[0]):
        call()
        for got, name in zip(
            seen[-1], ("w13_weight", "w13_weight_scale", "w2_weight", "w2_weight_scale"), strict=True
        ):
            assert torch.equal(got.view(torch.uint8), call.dense[name].view(torch.uint8)), name
    assert len(scratches) == 1
    assert len({tuple(each.data_ptr() for each in tensors) for tensors in seen}) == 1


@pytest.mark.parametrize("kind", [SparseDecodeExperts, SparseSlicedExperts])
def test_of_a_compressed_layer_tiles_are_left(kind: type[SparseExperts], scratches: dict[Any, Any]) -> None:
    """3.5 bits a weight, beside the one scratch."""
    Call(kind, 1)  # the first layer, whose weights become the scratch
    held = Call(kind, 1).layer
    assert held.w13_weight.shape == (EXPERTS, 2 * INTERMEDIATE // 16, HIDDEN // 256, tiles.BYTES)
    assert held.w2_weight.shape == (EXPERTS, HIDDEN // 16, INTERMEDIATE // 256, tiles.BYTES)
    shared = {each.data_ptr() for scratch in scratches.values() for each in vars(scratch).values()}
    own = [each for each in held.parameters() if each.data_ptr() not in shared and each.dim() > 1]
    assert sum(each.nbytes for each in own) * 8 == 3.5 * EXPERTS * 3 * HIDDEN * INTERMEDIATE
    assert bool(shared) is (kind is SparseDecodeExperts)


def test_what_a_layer_gives_up_is_given_back_before_the_next_is_compressed(
    monkeypatch: pytest.MonkeyPatch, scratches: dict[Any, Any]
) -> None:
    """Else a PyTorch that holds it in reserve puts tiles there, and what they leave of it is lost."""
    steps: list[str] = []
    compress = operators.compress_24

    def counted(weight: torch.Tensor, scale: torch.Tensor, halves: bool) -> torch.Tensor:
        steps.append("w13" if halves else "w2")
        return compress(weight, scale, halves)

    monkeypatch.setattr("dgx_vllm.plugin.moe.experts_24.compress_24", counted)
    monkeypatch.setattr(torch.accelerator, "empty_cache", lambda: steps.append("given back"))
    for _ in range(2):
        Call(SparseDecodeExperts, 1)
    assert steps == ["given back", "w13", "w2"] * 2


def test_a_layer_that_is_not_sparse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = operators.compress_24

    def spoiled(weight: torch.Tensor, scale: torch.Tensor, halves: bool) -> torch.Tensor:
        weight[1, 7, 20:22] = 0x11
        return kept(weight, scale, halves)

    monkeypatch.setattr("dgx_vllm.plugin.moe.experts_24.compress_24", spoiled)
    where = "model.layers.3.mlp.experts, w13: the weight is not 2:4: 1 groups of four in expert 1"
    with pytest.raises(ValueError, match=where):
        Call(SparseDecodeExperts, 1)


@pytest.mark.parametrize("kind", [DecodeExperts, SparseDecodeExperts, SparseSlicedExperts])
def test_vllm_sees_the_same_sizes(kind: type[DecodeExperts]) -> None:
    call = Call(kind, 5)
    sizes = call.experts.moe_problem_size(call.x, call.layer.w13_weight, call.layer.w2_weight, call.ids)
    assert sizes == (EXPERTS, 5, 2 * INTERMEDIATE, HIDDEN, 2)


@pytest.mark.parametrize("kind", [SlicedExperts, SparseSlicedExperts, SparseDecodeExperts])
def test_beyond_16_tokens_the_kernel_takes_slices(
    kind: type[DecodeExperts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To verify, any number; of compressed weights up to the crossover."""
    sizes: list[int] = []
    decode = kind.decode

    def counting(self: DecodeExperts, output: torch.Tensor, x: torch.Tensor, *rest: Any) -> None:
        sizes.append(len(x))
        decode(self, output, x, *rest)

    monkeypatch.setattr(kind, "decode", counting)
    call = Call(kind, 37)
    # Not bit by bit: how many rows a CPU's product has decides how it sums.
    torch.testing.assert_close(call(), call.expected(call.weights), rtol=2**-7, atol=1)
    assert sizes == [16, 16, 5]
