"""Rows: ratios to peers, and the file."""

import json
from pathlib import Path

import pytest

from dgx_vllm.bench_kernels import measurements
from dgx_vllm.bench_kernels.measurements import Row, Timed

PEERS = ("Marlin", "Humming")


def timed(who: str, us: float, m: int = 1, work: str = "w", shape: str = "s") -> Timed:
    return Timed(who, work, Row(f"{who}, {work}", shape, m, us, 1000 / us, 0.5))


def test_ours_is_held_against_the_same_work_alone() -> None:
    found = measurements.compare(
        [
            timed("ours", 10),
            timed("ours", 20, m=2),
            timed("ours", 5, work="other"),
            timed("bytes only", 8, work=""),
            timed("Marlin", 25),
            timed("Humming", 15, m=2),
        ],
        PEERS,
    )
    assert [(r.kernel, r.m, r.vs_marlin, r.vs_humming) for r in found] == [
        ("ours, w", 1, 2.5, None),
        ("ours, other", 1, None, None),
        ("bytes only, ", 1, None, None),
        ("Marlin, w", 1, None, None),
        ("ours, w", 2, None, 0.75),
        ("Humming, w", 2, None, None),
    ]


def test_sparse_weights_are_held_against_dense_ones_too() -> None:
    """And where dense ones were measured with scales in two layouts, against the first."""
    measured = [timed("moe_decode", 12), timed("moe_decode", 50), timed("moe_decode 2:4", 10)]
    found = measurements.compare([*measured, timed("Marlin", 25)], PEERS)
    assert [(r.vs_dense, r.vs_marlin) for r in found[:3]] == [(None, 25 / 12), (None, 0.5), (1.2, 2.5)]


def test_shapes_stay_together_in_the_order_measured() -> None:
    measured = [timed("ours", 1, shape="b"), timed("ours", 1, shape="a"), timed("Marlin", 2, shape="b")]
    found = measurements.compare(measured, PEERS)
    assert [(r.shape, r.kernel) for r in found] == [("b", "ours, w"), ("b", "Marlin, w"), ("a", "ours, w")]


def test_the_file_holds_the_head_and_a_row_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    row = Row("k", "s", 4, 12.3456, 2000.4, 0.65432, 1.2345, None)
    measurements.write(path, {"date": "2026-01-01", "device": "d", "command": "c"}, [row, row])
    text = path.read_text()
    expected = {"kernel": "k", "shape": "s", "m": 4, "us": 12.35, "gbps": 2000, "fraction_of_read": 0.654}
    assert json.loads(text) == {
        "date": "2026-01-01",
        "device": "d",
        "command": "c",
        "rows": [{**expected, "vs_marlin": pytest.approx(1.23, abs=0.005), "vs_humming": None}] * 2,
    }
    assert sum('"kernel"' in line for line in text.splitlines()) == 2
