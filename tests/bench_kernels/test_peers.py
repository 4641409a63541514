"""Peers launch what vLLM launches, on the weights that vLLM makes of a checkpoint's: no GPU is needed for it.

PyTorch's operators are replaced by ones that write down what they are called with.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgx_vllm.bench_kernels import align, layer_inputs, marlin, vllm_modules
from dgx_vllm.bench_kernels.implementation import Unavailable
from dgx_vllm.bench_kernels.random_experts import Experts
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.bench_kernels.shared_expert_overlap import Fork

pytest.importorskip("vllm")

from vllm import _custom_ops
from vllm.model_executor.layers.fused_moe.experts import marlin_moe
from vllm.model_executor.layers.quantization.utils import marlin_utils_fp4
from vllm.scalar_type import scalar_types

#: Marlin takes the first as it is, and pads the experts of the others.
SHAPES = [Moe("even", 128, 64, 4, 2, 64), Moe("rows", 128, 32, 4, 2, 64), Moe("awkward", 192, 64, 4, 2, 64)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


class Recorder:
    """A namespace of operators: `calls` holds names and arguments, tensors by shape and type."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            seen = tuple((tuple(a.shape), a.dtype) if isinstance(a, torch.Tensor) else a for a in arguments)
            self.calls.append((name, seen))
            return arguments[1] if name == "moe_wna16_marlin_gemm" else None

        return call


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for name in ("_C", "_moe_C"):
        monkeypatch.setitem(torch.ops.__dict__, name, recorder)
    properties = SimpleNamespace(multi_processor_count=7)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return recorder


@pytest.fixture
def no_repacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repacked order is the GPU's to make; what goes into it is compared."""
    monkeypatch.setattr(marlin, "repack", lambda weight: weight.view(torch.int32).T.contiguous())
    monkeypatch.setattr(
        _custom_ops, "gptq_marlin_repack", lambda b_q_weight, **sizes: b_q_weight, raising=False
    )


def experts(shape: Moe) -> Experts:
    return Experts(shape.experts, shape.hidden, shape.intermediate, torch.Generator().manual_seed(5))


def as_vllm_has_them(shape: Moe, e: Experts) -> tuple[torch.Tensor, ...]:
    layer = SimpleNamespace(
        num_experts=shape.experts,
        hidden_size=shape.hidden,
        intermediate_size_per_partition=shape.intermediate,
        params_dtype=torch.bfloat16,
    )
    e4m3 = torch.float8_e4m3fn
    return marlin_utils_fp4.prepare_nvfp4_moe_layer_for_marlin(
        layer, e.w13, e.s13.view(e4m3), e.g13, e.w2, e.s2.view(e4m3), e.g2, is_act_and_mul=True
    )


@each_shape
def test_marlin_s_weights_are_those_that_vllm_makes(shape: Moe, no_repacking: None) -> None:
    e = experts(shape)
    pair = marlin.Pair(e)
    ours = [
        getattr(m, name) for m in (pair.gate_up, pair.down) for name in ("weight", "scale", "global_scale")
    ]
    for mine, theirs in zip(ours, as_vllm_has_them(shape, e), strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine.view(torch.uint8), theirs.contiguous().view(torch.uint8))


@each_shape
@pytest.mark.parametrize("tokens", [1, 3, 16])
def test_marlin_s_launches_are_those_that_vllm_makes(
    shape: Moe, tokens: int, no_repacking: None, recorded: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (given,) = layer_inputs.draw(shape, tokens, 1, overlap=True, device="cpu")
    e = experts(shape)
    routed = marlin.Routed(marlin.Pair(e), given)
    routed()
    ours, recorded.calls = recorded.calls, []

    _, s13, g13, _, s2, g2 = as_vllm_has_them(shape, e)
    # What the kernel's shape checks look at: [experts, k / 16, 2 n] of the repacked order.
    monkeypatch.setattr(marlin_moe, "marlin_moe_intermediate_size", lambda w1, w2: routed.pair.down.k)
    monkeypatch.setattr(marlin_moe.ops, "current_platform", SimpleNamespace(is_xpu=lambda: False))
    marlin_moe.fused_marlin_moe(
        given.x,
        torch.empty(shape.experts, shape.hidden // 16, 4),
        torch.empty(shape.experts, 4, shape.hidden * 2),
        *(None, None, s13, s2, given.weights, given.ids, scalar_types.float4_e2m1f.id),
        activation_func=lambda activation, out, x, **more: torch.ops._C.silu_and_mul(out, x),
        moe_sum=lambda x, out, ids, expert_map: torch.ops._moe_C.moe_sum(x, out, None, None),
        global_scale1=g13,
        global_scale2=g2,
        workspace=routed.workspace,
        output=torch.empty_like(given.x),
    )
    theirs = recorded.calls
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    assert len(ours) == 5
    for (name, mine), (_, other) in zip(ours, theirs, strict=True):
        if name == "moe_wna16_marlin_gemm":  # the stand-ins for weights are not of their shape
            mine, other = mine[:2] + mine[3:], other[:2] + other[3:]
        assert mine == other, name


def test_marlin_s_dense_product_takes_what_vllm_s_does(
    recorded: Recorder, no_repacking: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = experts(SHAPES[0])
    m = marlin.Matrices(e.w13[:1], e.s13[:1], e.g13[:1])
    x, workspace = torch.zeros(2, m.k, dtype=torch.bfloat16), marlin.locks(torch.device("cpu"))
    marlin.dense(x, m, workspace)
    _custom_ops.marlin_gemm(
        x, None, m.weight[0], None, m.scale[0], None, m.global_scale, None, workspace,
        scalar_types.float4_e2m1f, 2, m.n, m.k, use_atomic_add=False, use_fp32_reduce=True,
    )  # fmt: skip
    ours, theirs = recorded.calls
    assert ours == theirs


def test_an_alignment_has_room_for_every_draw(recorded: Recorder) -> None:
    """As many blocks as slots may need: each expert that is drawn rounds its slots up to blocks."""
    for tokens in (1, 2, 4, 16):
        ids = torch.zeros(tokens, 2, dtype=torch.int32)
        for block in (8, 16, 64):
            made = align.Alignment(ids, 4, block)
            worst = min(ids.numel(), 4)
            assert len(made.sorted) >= worst * block or len(made.sorted) >= ids.numel() + worst * (block - 1)
            assert len(made.experts) * block >= len(made.sorted)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """CUDA's streams, as a list of what happens to them."""
    events: list[str] = []
    main = SimpleNamespace(wait_stream=lambda stream: events.append(f"main waits for {stream.name}"))
    main.name = "main"
    current = [main]

    class On:
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            current.append(self.stream)

        def __exit__(self, *_: Any) -> None:
            current.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", On)
    return events


def test_the_shared_expert_beside_forks_and_joins(streams: list[str]) -> None:
    side = SimpleNamespace(
        name="side", wait_stream=lambda stream: streams.append(f"side waits for {stream.name}")
    )

    def part(name: str) -> Any:
        def run() -> torch.Tensor:
            streams.append(f"{name} on {torch.cuda.current_stream().name}")
            return torch.full((2, 3), 2.0, dtype=torch.bfloat16)

        return run

    out = Fork(part("routed"), part("shared"), torch.zeros(2), side)()  # type: ignore[arg-type]
    assert streams == ["side waits for main", "shared on side", "routed on main", "main waits for side"]
    assert torch.equal(out, torch.full((2, 3), 2 + 2 * 0.5, dtype=torch.bfloat16))
    streams.clear()
    behind = Fork(part("routed"), part("shared"), torch.zeros(2), None)()
    assert streams == ["routed on main", "shared on main"]
    assert torch.equal(behind, out)


def test_a_vllm_without_cuda_s_modules_leaves_peers_out() -> None:
    with pytest.raises(Unavailable, match="has no _C_stable_libtorch"):
        vllm_modules.load()
