"""The NixOS module where there is no nixpkgs: its words, its warnings, its package, its page of options.

SERVICE_MATRIX names what nix/service/matrix.nix gives as JSON,
SERVICE_OPTIONS that of nix/service/reference.nix.
What needs nixpkgs' lib is in nix/service/agreement.nix.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dgx_vllm.launch.settings import config_file, option_table
from dgx_vllm.service.instance import Instance

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/reference/nixos-options.md"
needs_matrix = pytest.mark.skipif("SERVICE_MATRIX" not in os.environ, reason="SERVICE_MATRIX names no file")
needs_options = pytest.mark.skipif(
    "SERVICE_OPTIONS" not in os.environ, reason="SERVICE_OPTIONS names no file"
)

TAKEN = {
    "host": {"127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "spark.local", "localhost"},
    "model": {"owner/name", "demo", "/srv/model", "s3://bucket/model"},
    "revision": {"main", "v1.0", "refs/pr/1"},
    "profile": {"qwen3.6-35b-a3b-nvfp4", "/etc/own.toml"},
    "account": {"alice", "_vllm", "host$"},
    "place": {"/srv/models", "/"},
    "size": {"4096", "32k", "25.6k", "1M", "2T"},
    "variable": {"A", "_a1"},
}
GRAPHICS, DRIVER = "hardware.graphics.enable = true", "no NVIDIA driver is configured"
NODES, OPEN = "one of several nodes", "requires no key"
WARNED = {
    "nothing": [],
    "key": [],
    "open": [OPEN],
    "nodes": [NODES],
    "set": [NODES],
    "graphics": [GRAPHICS],
    "driver": [DRIVER],
    "bare": [GRAPHICS, DRIVER],
    "elsewhere": [],
    "laptop": [],
}


@pytest.fixture(scope="module")
def matrix() -> Any:
    return json.loads(Path(os.environ["SERVICE_MATRIX"]).read_text())


@pytest.fixture(scope="module")
def reference() -> Any:
    return json.loads(Path(os.environ["SERVICE_OPTIONS"]).read_text())


@needs_matrix
@pytest.mark.parametrize("name", TAKEN)
def test_a_word_is_taken_or_refused_as_a_whole(matrix: Any, name: str) -> None:
    tried = matrix["words"][name]
    assert {text for text, taken in tried.items() if taken} == TAKEN[name]
    assert "" in tried  # and what is empty is refused by all


@needs_matrix
def test_every_word_of_the_matrix_is_expected(matrix: Any) -> None:
    assert set(matrix["words"]) == set(TAKEN)


@needs_matrix
@pytest.mark.parametrize("name", WARNED)
def test_what_a_machine_lacks_is_a_warning(matrix: Any, name: str) -> None:
    said = matrix["warned"][name]
    assert len(said) == len(WARNED[name])
    for message, expected in zip(said, WARNED[name], strict=True):
        assert expected in message


@needs_matrix
def test_every_warning_of_the_matrix_is_expected(matrix: Any) -> None:
    assert set(matrix["warned"]) == set(WARNED)


@needs_matrix
def test_a_platform_gets_its_package_and_a_spark_that_is_cross_built_the_assembled_one(matrix: Any) -> None:
    assert matrix["packages"] == {
        "native": ["x86", "arm"],
        "unsaid": "arm",
        "cross": "assembled",
        "back": "x86",
        "others": [False, False],
    }


@needs_options
def test_the_page_of_options_is_the_modules(reference: Any) -> None:
    """The page's first lines say how to make it again."""
    assert DOCUMENT.read_text(encoding="utf-8") == reference["text"]


@needs_options
def test_every_option_has_a_description_and_an_example(reference: Any) -> None:
    options = reference["options"]
    assert len(options) > 40
    assert [each["name"] for each in options if "example" not in each] == []
    assert [each["name"] for each in options if not re.fullmatch(r"[^\s].*\.", each["description"])] == []


@needs_options
def test_an_example_is_not_the_default(reference: Any) -> None:
    same = [each["name"] for each in reference["options"] if each.get("example") == each.get("default", {})]
    assert same == []


@needs_options
def test_every_field_of_an_instance_has_an_option(reference: Any) -> None:
    """But for those that the module works out."""
    names = {each["name"].rpartition(".")[2] for each in reference["options"]}
    worked_out = {"name", "command", "settings_file", "conflicts", "reading"}
    fields = {field.name for field in msgspec.structs.fields(Instance)} - worked_out - {"options"}
    fields |= {option.field for option in option_table.of("nixos")}
    camel = {re.sub("_(.)", lambda found: found[1].upper(), field) for field in fields}
    assert camel <= names


@needs_options
def test_the_examples_of_settings_are_a_file_that_vllm_reads(reference: Any, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(reference["flags"]))
    assert len(reference["flags"]) > 10
    assert set(config_file.read(str(file))) == set(reference["flags"])
