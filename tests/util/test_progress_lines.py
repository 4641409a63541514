"""The lines in the journal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.util.progress_lines import Meter, Progress, duration


def test_done_total_speed_and_what_is_left() -> None:
    meter = Meter(23_400_000_000, 1_400_000_000, now=100.0)
    assert meter.line(3_400_000_000, now=120.0) == "3.4 GB of 23.4 GB (14%), 100.0 MB/s, 3 min left"
    # The speed is that of the last lines, not of the whole.
    assert meter.line(3_600_000_000, now=140.0) == "3.6 GB of 23.4 GB (15%), 10.0 MB/s, 33 min left"
    assert meter.line(3_600_000_000, now=160.0) == "3.6 GB of 23.4 GB (15%), 0.0 MB/s"


@given(
    st.integers(0, 10**13),
    st.lists(st.tuples(st.integers(0, 10**13), st.floats(0, 10**6)), min_size=1, max_size=5),
)
def test_any_course_is_one_line(total: int, course: list[tuple[int, float]]) -> None:
    meter = Meter(total, 0, 0.0)
    now = 0.0
    for done, seconds in course:
        now += seconds  # also backwards, where a part had to start over
        line = meter.line(min(done, total), now)
        assert "\n" not in line
        assert "-" not in line.replace("e-", "")


def test_one_line_for_each_interval() -> None:
    now = 0.0
    lines: list[str] = []
    progress = Progress(100, 0, lambda: now, lines.append, seconds=15)
    for second in range(61):
        now = float(second)
        progress.at(second)
    assert len(lines) == 4


@pytest.mark.parametrize(("terminal", "lines"), [(True, 12), (False, 4)])
def test_a_terminal_gets_more(terminal: bool, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    now = 0.0
    said: list[str] = []
    progress = Progress(100, 0, lambda: now, said.append)
    for second in range(61):
        now = float(second)
        progress.at(second)
    assert len(said) == lines


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.0, "59 s"), (60.0, "1 min"), (300.0, "5 min"), (3900.0, "1 h 05 min")],
)
def test_durations_are_rounded_to_readable_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
