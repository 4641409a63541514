"""What `nix flake show` and `nix search` tell of the flake.

FLAKE_OUTPUTS names a JSON file with this system's packages and checks, the modules and the templates.
Packages and checks have their name and their description.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif("FLAKE_OUTPUTS" not in os.environ, reason="FLAKE_OUTPUTS names no file")


@pytest.fixture(scope="module")
def outputs() -> Any:
    return json.loads(Path(os.environ["FLAKE_OUTPUTS"]).read_text())


@pytest.mark.parametrize("kind", ["packages", "checks"])
def test_every_output_has_a_name_of_its_own_and_a_description(outputs: Any, kind: str) -> None:
    shown = outputs[kind]
    assert len(shown) > 7
    names = [each["name"] for each in shown.values()]
    assert len(set(names)) == len(names)
    assert [name for name, each in shown.items() if len(each["description"].split()) < 3] == []
    # As a path of the store may be called, or tools would not take it.
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9+_=-][A-Za-z0-9+._=-]{0,210}", name)] == []


def test_a_check_is_shown_by_what_it_checks(outputs: Any) -> None:
    """`nix flake show` prints names, and the store's own say no more than the attribute does."""
    for attribute, each in outputs["checks"].items():
        assert each["name"] != f"check-{attribute}"
        assert each["name"].split("-")[0] == each["description"].split()[0].strip(",:")


def test_what_is_assembled_for_a_gb10_says_so(outputs: Any) -> None:
    assembled = {name: each for name, each in outputs["packages"].items() if name.startswith("gb10-")}
    for name, each in assembled.items():
        assert each["name"].startswith("gb10-"), name
        assert each["description"].startswith("For GB10"), name
    assert not any(
        each["name"].startswith("gb10-")
        for name, each in outputs["packages"].items()
        if name not in assembled
    )


def test_the_module_has_its_own_name_too(outputs: Any) -> None:
    assert outputs["modules"] == ["default", "dgx-vllm"]


def test_templates_are_described_and_the_default_is_the_spark(outputs: Any) -> None:
    templates = outputs["templates"]
    assert set(templates) == {"compose", "default", "profile", "spark", "two-sparks"}
    assert templates["default"] == templates["spark"]
    assert all(template["description"] for template in templates.values())
    assert templates["compose"]["files"] == ["compose.yaml"]
    assert templates["profile"]["files"] == ["profile.toml"]


def test_template_of_a_spark_is_a_flake_with_a_configuration(outputs: Any) -> None:
    template = outputs["templates"]["spark"]
    assert {"flake.nix", "configuration.nix"} <= set(template["files"])
    assert template["machines"] == {"spark": {"system": "aarch64-linux", "modules": 3}}


def test_template_of_two_sparks_has_a_configuration_for_each(outputs: Any) -> None:
    machines = outputs["templates"]["two-sparks"]["machines"]
    assert machines == {name: {"system": "aarch64-linux", "modules": 3} for name in ("head", "worker")}
