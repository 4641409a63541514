"""A start that fails says what has changed since the model was last served."""

import json
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.launch.process import good_starts
from dgx_vllm.launch.process.good_starts import Start
from helpers.launching import Start as Launcher

_TEXT = st.text("abc0.", min_size=1, max_size=3)
_STARTS = st.builds(
    Start,
    model=_TEXT,
    time=st.floats(0, 2e9),
    kernel=_TEXT,
    driver=st.none() | _TEXT,
    system=_TEXT,
    package=_TEXT,
    build=_TEXT,
)


def test_a_failed_start_names_what_an_update_changed(start: Launcher, checkpoint: Path) -> None:
    first = start()
    first.await_ready()
    first.end(signal.SIGTERM)
    environ = first.recorded("environ.json")
    path = good_starts._path(environ)
    assert path is not None
    (known,) = json.loads(path.read_text())
    assert known["model"] == str(checkpoint)
    path.write_text(json.dumps([{**known, "kernel": "6.17.0-1008-nvidia", "time": 1.0e9}]))
    outcome = start(exit_after=0.2, health_after=600, exit_status=3).end()
    assert outcome.status == 3
    last = outcome.err.splitlines()[-1]
    assert last.startswith("dgx-vllm: it was last served on 2001-09-")
    assert f"since then: kernel 6.17.0-1008-nvidia -> {known['kernel']}" in last


def test_a_failed_start_of_what_never_ran_says_nothing_of_changes(start: Launcher) -> None:
    assert "last served" not in start(exit_after=0.2, health_after=600).end().err


@given(_STARTS, _STARTS)
def test_changes_are_those_of_the_machine_and_the_package(before: Start, after: Start) -> None:
    assert good_starts.changes(before, before) == []
    fields = ("kernel", "driver", "system", "package", "build")
    differs = any(getattr(before, each) != getattr(after, each) for each in fields)
    assert bool(good_starts.changes(before, after)) is differs


@given(st.lists(_STARTS, max_size=40))
def test_the_last_start_of_each_model_is_kept(
    tmp_path_factory: pytest.TempPathFactory, many: list[Start]
) -> None:
    environ = {"HOME": str(tmp_path_factory.mktemp("home"))}
    for each in many:
        good_starts.record(each, environ)
    for model in {each.model for each in many[-good_starts._KEPT :]}:
        newest = [each for each in many if each.model == model][-1]
        found = good_starts.last(environ, model, Path("/nonexistent"))
        assert found in (newest, None)
    if many:
        assert good_starts.last(environ, many[-1].model, Path("/nonexistent")) == many[-1]


@pytest.mark.parametrize("written", [b"", b"[]", b"{}", b"[{}]", b"\xff", b"[1, 2"])
def test_a_file_that_is_damaged_tells_nothing(tmp_path: Path, written: bytes) -> None:
    path = good_starts._path({"HOME": str(tmp_path)})
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_bytes(written)
    assert good_starts.last({"HOME": str(tmp_path)}, root=tmp_path) is None
