"""A trace of decoding: whole steps, parts by name, and each instant once."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.bench_decode import trace
from dgx_vllm.bench_decode.trace import Event

STEPS = 10


def decoding(gap: float = 5.0) -> list[Event]:
    """Ten steps of 100 us and a part of another: three kernels of experts, an argmax, gaps."""
    events = []
    for step in range(STEPS + 1):
        at = 100.0 * step
        for _ in range(3):
            events.append(Event("dgx::moe_decode_kernel", at, at + 20))
            at += 20 + gap
        events.append(Event("argmax_kernel", at, at + 10))
    return events[:-1]


def test_a_step_is_the_mean_of_whole_ones() -> None:
    step = trace.step(decoding(), STEPS)
    assert step is not None
    assert step.steps == STEPS - 1
    assert step.us == pytest.approx(100)
    assert step.busy == pytest.approx(70)
    assert step.launches == pytest.approx(4)
    assert step.parts() == pytest.approx({"experts": 60, "sampling": 10})


def test_a_trace_without_steps_is_none() -> None:
    assert trace.step([Event("prefill", 0, 1)] * 3, STEPS) is None
    assert trace.step([], STEPS) is None


@pytest.mark.parametrize(
    ("kernel", "part"),
    [
        ("void marlin_moe_wna16::Marlin<__nv_bfloat16, 1125899906842624l, ...>", "experts"),
        ("void marlin::Marlin<__nv_bfloat16, ...>", "dense linears"),
        ("void dgx::moe::moe_gate_up_direct<(dgx::moe::Shapes)1>(dgx::moe::Layer)", "experts"),
        ("void dgx::linear::multiply_direct<1>(dgx::linear::Layer)", "dense linears"),
        ("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", "dense linears"),
        ("fused_recurrent_gated_delta_rule_packed_decode_kernel", "GDN"),
        ("_causal_conv1d_update_kernel", "GDN"),
        (
            "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<...>>>",
            "attention",
        ),
        ("void vllm::moe::topkGating<16, 512, ...>", "routing"),
        ("triton_red_fused_add_mul_rms_norm_0", "norms and small ones"),
        ("Memcpy DtoD (Device -> Device)", "norms and small ones"),
    ],
)
def test_a_kernel_belongs_to_a_part_by_its_name(kernel: str, part: str) -> None:
    assert trace._part(kernel, trace.parts()) == part


def test_kernels_are_read_in_order_from_plain_and_packed_traces(tmp_path: Path) -> None:
    events = [
        {"cat": "kernel", "name": "b", "ts": 5, "dur": 1},
        {"cat": "kernel", "name": "a", "ts": 1, "dur": 2.5},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9},
        {"ph": "M", "name": "process_name"},
    ]
    for path, write in ((tmp_path / "t.json", open), (tmp_path / "t.json.gz", gzip.open)):
        with write(path, "wt") as file:
            json.dump({"traceEvents": events}, file)
        assert trace.read(path) == [Event("a", 1, 3.5), Event("b", 5, 6)]


@st.composite
def overlapping(draw: st.DrawFn) -> list[Event]:
    spans = draw(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=12))
    return [Event(draw(st.sampled_from("xyz")), start, start + length) for start, length in spans]


@given(overlapping())
def test_shares_add_up_to_the_time_in_which_something_ran(events: list[Event]) -> None:
    """Against counting microsecond by microsecond."""
    end = max(event.end for event in events)
    expected = dict.fromkeys((event.name for event in events), 0.0)
    for at in range(int(end)):
        running = [event.name for event in events if event.start <= at < event.end]
        for name in running:
            expected[name] += 1 / len(running)
    assert trace._shares(events, end) == pytest.approx(expected)
