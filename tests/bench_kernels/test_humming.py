"""Humming is launched as vLLM launches it.

No GPU and no Humming is needed for it: its functions write down what they are called with.
"""

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.bench_kernels import humming, layer_inputs
from dgx_vllm.bench_kernels.shapes import Moe
from helpers.processes import PATIENCE

pytest.importorskip("vllm")

from vllm.model_executor.layers.fused_moe.activation import ApplyMoEActivationConfig, MoEActivation
from vllm.model_executor.layers.fused_moe.experts import fused_humming_moe

SHAPE = Moe("small", 128, 64, 8, 2, 64)
CONFIG = SimpleNamespace(
    input_quant_mode=SimpleNamespace(should_quantize=False, has_secondary_scale=False, has_group_scale=False)
)
#: Up to 4 rows, up to 8, and more.
TUNING = {
    rows: [[0, 4, {"block_shape": [8, 64, 64]}], [4, 8, {"block_shape": [rows, 64, 64]}],
           [8, 1 << 30, {"block_shape": [16, 64, 64]}]]
    for rows in (8, 16)
}  # fmt: skip


def seen(value: Any) -> Any:
    return (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else value


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is called: Humming's functions by name, vLLM's operators by position."""
    found: list[tuple[str, dict[str, Any]]] = []

    def record(name: str, **defaults: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            given_ = {**dict(enumerate(arguments)), **named}
            # What is not said, or said to be what it is anyway, is the same.
            found.append(
                (name, {k: seen(v) for k, v in given_.items() if v is not None and defaults.get(k) != v})
            )
            out = named.get("outputs")
            return named.get("inputs") if out is None else out, None, None

        return call

    forward = ModuleType("humming.forward")
    forward.humming_forward = record("gemm")  # type: ignore[attr-defined]
    forward.may_process_input = record("process", hadamard_block_size=1, layout="normal")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "humming", ModuleType("humming"))
    monkeypatch.setitem(sys.modules, "humming.forward", forward)
    from vllm.utils import humming as facade

    monkeypatch.setattr(facade, "_patched", True)
    for name in ("humming_forward", "may_process_input"):
        monkeypatch.setitem(vars(facade), name, getattr(forward, name))
    recorder = SimpleNamespace(moe_align_block_size=record("align"))
    monkeypatch.setitem(torch.ops.__dict__, "_moe_C", recorder)
    sums = record("sum")
    monkeypatch.setattr(
        fused_humming_moe,
        "moe_fused_mul_sum",
        lambda inputs, topk_weights, outputs, **_: sums(inputs, topk_weights, outputs),
    )
    stand_in = ModuleType("dgx_vllm.bench_kernels.weighted_sum")
    stand_in.weighted_sum = sums  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dgx_vllm.bench_kernels.weighted_sum", stand_in)
    context = SimpleNamespace(dp_metadata=None)
    monkeypatch.setattr(fused_humming_moe, "get_forward_context", lambda: context)
    properties = SimpleNamespace(multi_processor_count=7)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return found


def matrices(n: int, k: int, rows: int) -> humming.Matrices:
    made = humming.Matrices.__new__(humming.Matrices)
    made.config, made.n, made.k, made.tuning = CONFIG, n, k, TUNING[rows]  # type: ignore[assignment]
    names = ("weight", "weight_scale", "weight_scale_2")
    made.tensors = {name: torch.zeros(SHAPE.experts, at + 1) for at, name in enumerate(names)}
    made.settings = {
        "compute_config": json.dumps({**humming._SETTINGS, "gemm_type": "indexed"}),
        "tuning_config": json.dumps(made.tuning),
    }
    return made


def vllm_s(gate_up: humming.Matrices, down: humming.Matrices, locks: torch.Tensor, buffers: Any) -> Any:
    """vLLM's experts with these weights; what their constructors ask of a whole vLLM is put in by hand."""
    layer = fused_humming_moe.HummingIndexedExperts.__new__(fused_humming_moe.HummingIndexedExperts)
    quant = {"w1_zp": None, "w2_zp": None, "w1_bias": None, "w2_bias": None}
    for at, m in ((1, gate_up), (2, down)):
        quant |= {
            f"w{at}_scale": m.tensors["weight_scale"],
            f"g{at}_alphas": m.tensors["weight_scale_2"],
            f"w{at}_input_scale": None,
            f"w{at}_input_scale_2": None,
            f"w{at}_hadamard_block_size": 1,
        }
    vars(layer).update(
        humming_configs={"w13": CONFIG, "w2": CONFIG},
        quant_config=SimpleNamespace(**quant),
        locks=locks,
        num_experts=SHAPE.experts,
        global_num_experts=SHAPE.experts,
        w13_tuning_config=gate_up.tuning,
        w2_tuning_config=down.tuning,
        w13_tuning_config_str=gate_up.settings["tuning_config"],
        w2_tuning_config_str=down.settings["tuning_config"],
        compute_config_str=gate_up.settings["compute_config"],
        activation_config=ApplyMoEActivationConfig(),
        prepare_buffers=lambda *_: dict(buffers),
    )
    return layer


@pytest.mark.parametrize("tokens", [1, 4, 16])
@pytest.mark.parametrize("rows", [8, 16], ids=["one alignment", "an alignment each at 8 slots"])
def test_a_layer_s_launches_are_vllm_s(calls: list[Any], tokens: int, rows: int) -> None:
    (given_,) = layer_inputs.draw(SHAPE, tokens, 1, overlap=True, device="cpu")
    gate_up = matrices(2 * SHAPE.intermediate, SHAPE.hidden, 8)
    down = matrices(SHAPE.hidden, SHAPE.intermediate, rows)
    routed = humming.Routed(gate_up, down, SHAPE.experts, given_)
    routed()
    ours, calls[:] = calls[:], []
    buffers = {
        "gate_up_output": routed.both,
        "quanted_down_input": routed.hidden,
        "down_output": routed.products,
    }
    vllm_s(gate_up, down, routed.locks, buffers).apply(
        output=routed.out,
        hidden_states=given_.x,
        w1=gate_up.tensors["weight"],
        w2=down.tensors["weight"],
        topk_weights=given_.weights,
        topk_ids=given_.ids,
        activation=MoEActivation.SILU,
        global_num_experts=SHAPE.experts,
        expert_map=None,
        a1q_scale=None,
        a2_scale=None,
        workspace13=None,
        workspace2=None,
        expert_tokens_meta=None,
        apply_router_weight_on_input=False,
    )
    # It asks to process what goes into the first product too, where nothing is to be done.
    theirs = [call for call in calls if call[0] != "process" or "activation_type" in call[1]]
    both = 2 if (rows, tokens) == (16, 4) else 1
    assert [name for name, _ in ours] == ["align"] * both + ["gemm", "process", "gemm", "sum"]
    for each in (ours, theirs):
        (process,) = [named for name, named in each if name == "process"]
        process["activation_impl"] = process["activation_impl"].replace("(", "").replace(")", "")
    for (name, mine), (_, other) in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys(), name
        assert {key: (mine[key], other[key]) for key in mine if mine[key] != other[key]} == {}, name


@given(st.integers(1, 400), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_the_choices_that_are_kept_are_those_that_count(step: int, sizes: list[int]) -> None:
    tuning = [(at * step, (at + 1) * step, {"block_shape": (at, 0, 0)}) for at in range(5)]
    tuning.append((5 * step, 1 << 30, {"block_shape": (5, 0, 0)}))
    kept = humming.among(tuning, sizes)
    for size in sizes:
        assert humming.block(kept, size) == humming.block(tuning, size) == min((size - 1) // step, 5)
    assert len(kept) <= len(set(sizes))


def test_the_weighted_sum_is_one(environment: dict[str, str]) -> None:
    """By Triton's interpreter, against float64: sizes that are no power of two, and one beyond a tile.

    The interpreter cuts to BF16 where a GPU rounds: each value may be off by 2^-7 of itself.
    """
    pytest.importorskip("triton")
    program = """
import torch
from dgx_vllm.bench_kernels.weighted_sum import weighted_sum
from helpers.processes import PATIENCE
for tokens, top_k, hidden in ((1, 1, 64), (3, 5, 192), (2, 3, 4160)):
    products, weights = torch.randn(tokens, top_k, hidden).bfloat16(), torch.rand(tokens, top_k)
    out = torch.full((tokens, hidden), float("nan"), dtype=torch.bfloat16)
    weighted_sum(products, weights, out)
    expected = (products.double() * weights.double()[..., None]).sum(1)
    assert ((out.double() - expected).norm() / expected.norm()) < 2**-7, (tokens, top_k, hidden)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
