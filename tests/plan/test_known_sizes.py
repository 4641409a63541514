"""A model that is here against the one that a profile was made for."""

from dataclasses import replace
from pathlib import Path

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import known_sizes, model
from dgx_vllm.plan.guard import Subject
from dgx_vllm.plan.model import Model
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.sizes import model_sizes

NAME = "nvidia/Qwen3.6-35B-A3B-NVFP4"


@pytest.fixture
def here() -> Model:
    """The profile's model, as if its files were here."""
    sizes = model_sizes.by_model(NAME)
    assert sizes is not None
    return replace(model.published(NAME, sizes), published=False, exact=True)


def moved(here: Model) -> Model:
    """A later version: two more layers, and a twentieth more of the experts."""
    grown = tuple(
        replace(weight, bytes=weight.bytes * 21 // 20) if weight.part == "routed experts" else weight
        for weight in here.weights
    )
    return replace(here, architecture=replace(here.architecture, layers=42), weights=grown)


def test_the_same_model_needs_no_word(here: Model) -> None:
    assert known_sizes.changes(here, profile.by_model(NAME)) is None


def test_a_model_that_moved_on_is_named_with_what_differs(here: Model) -> None:
    said = known_sizes.changes(moved(here), profile.by_model(NAME))
    assert said is not None
    assert said.startswith(
        f"profile qwen3.6-35b-a3b-nvfp4 was made for another version of {NAME}: layers 42 instead of 40"
    )
    assert "weights 24.4 GB instead of 23.4 GB" in said


def test_a_profile_without_known_sizes_says_nothing(here: Model) -> None:
    assert known_sizes.changes(moved(here), profile.by_name("demo")) is None
    assert known_sizes.changes(moved(here), None) is None


def test_serve_notes_that_the_model_moved_on(here: Model, spark: Machine) -> None:
    known = profile.by_model(NAME)
    for understood, expected in ((here, 0), (moved(here), 1)):
        request = Request(
            flags={"model": NAME},
            environ={},
            profile=known,
            memory=Memory(110 * 10**9, None, Subject(understood, known)),
        )
        launch = render(resolve(request, spark, frozenset()))
        assert sum("another version of" in note for note in launch.notes) == expected


@pytest.mark.parametrize("sizes", model_sizes.builtin(), ids=lambda sizes: sizes.model)
def test_a_file_of_sizes_is_written_as_it_is_read(sizes: model_sizes.ModelSizes, tmp_path: Path) -> None:
    path = tmp_path / "sizes.toml"
    path.write_text(model_sizes.to_toml(sizes))
    assert model_sizes.read(path) == sizes
