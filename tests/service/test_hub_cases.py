"""What is downloaded and whether the hub is asked, decided in Nix and in Python of the same instances.

SERVICE_MATRIX names what nix/service/matrix.nix gives as JSON; hub-cases.nix makes the cases.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wish import LAPTOP

from dgx_vllm.host.machine import Platform
from dgx_vllm.launch.settings import config_file, ranking, sources
from dgx_vllm.launch.settings.ranking import Layer, Source, layer
from dgx_vllm.profiles import profile
from dgx_vllm.service import hub_access, install
from dgx_vllm.service.instance import Instance
from dgx_vllm.vllm_flags import flags

pytestmark = pytest.mark.skipif("SERVICE_MATRIX" not in os.environ, reason="SERVICE_MATRIX names no file")


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return json.loads(Path(os.environ["SERVICE_MATRIX"]).read_text())["hub"]


def settings_of(case: dict[str, Any], directory: Path, platform: Platform) -> Layer:
    """What counts of a case's profile, file and arguments, as `install-service` ranks it."""
    name, model = case["profile"], case["model"]
    used = profile.by_name(name) if name else profile.by_model(model)
    file = directory / "settings.yaml"
    file.write_text(json.dumps(case["settings"]))
    options = {name: case[name] for name in ("model", "revision") if case[name]}
    # The module puts its option before the arguments.
    mtp = ["--speculative-config", '{"method": "mtp"}'] if case["mtp"] else []
    winners, overruled = ranking.rank(
        [
            sources.from_profile(used, replace(LAPTOP, vllm=replace(LAPTOP.vllm, platform=platform))),
            layer(config_file.read(str(file)), Source.CONFIG_FILE),
            layer({**flags.load().parse([*mtp, *case["extraArgs"]])[1], **options}, Source.FLAG),
        ]
    )
    return ranking.without_unset(winners, overruled)


def test_the_cases_are_many_and_of_both_kinds(cases: list[dict[str, Any]]) -> None:
    assert len(cases) > 900
    for decision in ("fetched", "needed"):
        assert {case[decision] for case in cases} == {True, False}
    assert len({tuple(case["reading"]) for case in cases}) > 5


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_nix_and_python_agree_on_what_the_hub_is_asked_for(
    cases: list[dict[str, Any]], tmp_path: Path, platform: Platform
) -> None:
    different = []
    for case in cases:
        settings = settings_of(case, tmp_path, platform)
        needed, reading = hub_access.is_needed(settings), list(hub_access.reading(settings))
        if (needed, reading) != (case["needed"], case["reading"]):
            different.append((case, needed, reading))
    assert different == []


def test_nix_and_python_download_the_same_models(cases: list[dict[str, Any]]) -> None:
    fetched = {case["model"]: case["fetched"] for case in cases}
    for model, download in fetched.items():
        made = install.prepared(Instance(name="main", command="/bin/dgx-vllm", model=model))
        assert made.download == download, model
