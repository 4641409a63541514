"""A user's own Python: found by --python-path, and missed before vLLM takes half a minute to."""

import json
import os
import sys
from pathlib import Path

import pytest
from test_bad_input import refused

from helpers.launching import Run, Start


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory of a user's modules."""
    directory = tmp_path / "own"
    (directory / "team/deep").mkdir(parents=True)
    for name in ("single.py", "team/__init__.py", "team/deep/__init__.py", "team/deep/leaf.py"):
        (directory / name).write_text("raise AssertionError('imported')\n")
    (directory / "space").mkdir()
    (directory / "space/inside.py").touch()
    return directory


def spelt(path: str, word: str) -> list[str]:
    name, _, fields = path.partition(" ")
    value: object = word
    for each in reversed(fields.split()):
        value = {each: value}
    return [f"--{name}", value if isinstance(value, str) else json.dumps(value)]


OBJECTS = [
    "middleware",
    "worker-cls",
    "worker-extension-cls",
    "scheduler-cls",
    "distributed-executor-backend",
    "ec-manager-config encoder_cache_manager_cls",
]
TYPES = ["logits-processors", "model-class-overrides MyArchitecture"]
MODULES = [
    "tool-parser-plugin",
    "reasoning-parser-plugin",
    "structured-outputs-config reasoning_parser_plugin",
    "kv-transfer-config kv_connector_module_path",
    "kv-transfer-config kv_connector_extra_config spec_module_path",
    "ec-transfer-config ec_connector_module_path",
]
FLAGS = [
    *((path, "{}.Name") for path in OBJECTS),
    *((path, "{}:Name") for path in TYPES),
    *((path, "{}") for path in MODULES),
]


@pytest.mark.parametrize(("path", "form"), FLAGS)
def test_a_module_that_is_nowhere_is_refused(dgx_vllm: Run, own: Path, path: str, form: str) -> None:
    words = ["serve", "org/model", "--dry-run", *spelt(path, form.format("mine.filters"))]
    outcome = dgx_vllm(*words)
    refused(outcome, f"--{path.split()[0]}", "Python module mine.filters", "--python-path DIRECTORY")
    refused(dgx_vllm(*words, "--python-path", str(own)), "Python module mine.filters", f"{own} has")


@pytest.mark.parametrize(("path", "form"), FLAGS)
@pytest.mark.parametrize(
    "module", ["single", "team", "team.deep.leaf", "space.inside", "json.decoder", "sys"]
)
def test_a_module_that_is_there_passes_and_is_not_imported(
    dgx_vllm: Run, own: Path, path: str, form: str, module: str
) -> None:
    words = ["serve", "org/model", "--dry-run", *spelt(path, form.format(module))]
    outcome = dgx_vllm(*words, "--python-path", str(own))
    assert outcome.status == 0, outcome.err


@pytest.mark.parametrize("module", ["team.missing", "single.inner", "team.deep.leaf.x"])
def test_a_module_that_its_package_lacks_is_refused(dgx_vllm: Run, own: Path, module: str) -> None:
    words = ["serve", "org/model", "--dry-run", "--middleware", f"{module}.Name", "--python-path", str(own)]
    refused(dgx_vllm(*words), f"Python module {module}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--middleware", "Name"], "--middleware must be module.name, not 'Name'"),
        (["--logits-processors", "json.Name"], "--logits-processors must be module:name, not 'json.Name'"),
        (["--worker-cls", "Name"], "--worker-cls must be module.name"),
    ],
)
def test_a_word_that_names_no_module_is_refused(dgx_vllm: Run, words: list[str], said: str) -> None:
    refused(dgx_vllm("serve", "org/model", "--dry-run", *words), said)


@pytest.mark.parametrize(
    "words",
    [
        ["--worker-cls", "auto"],
        ["--distributed-executor-backend", "mp"],
        ["--compilation-config.backend", "eager"],
        ["--worker-cls", "vllm.v1.worker.gpu_worker.Worker"],
        ["--kv-transfer-config", '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'],
    ],
)
def test_names_of_vllms_own_pass(dgx_vllm: Run, words: list[str]) -> None:
    outcome = dgx_vllm("serve", "org/model", "--dry-run", *words)
    assert outcome.status == 0, outcome.err


def test_a_plugin_may_be_a_file(dgx_vllm: Run, own: Path) -> None:
    words = ["serve", "org/model", "--dry-run", "--tool-parser-plugin"]
    assert dgx_vllm(*words, str(own / "single.py")).status == 0
    refused(dgx_vllm(*words, str(own / "nosuch.py")), "there is no such file")


def test_the_current_directory_does_not_count(
    dgx_vllm: Run, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server runs with -P."""
    monkeypatch.chdir(own)
    monkeypatch.setattr(sys, "path", ["", *sys.path[1:]])
    refused(dgx_vllm("serve", "org/model", "--dry-run", "--middleware", "single.Name"), "--python-path")


def test_a_directory_that_would_replace_the_server_is_refused(dgx_vllm: Run, own: Path) -> None:
    words = ["serve", "org/model", "--dry-run", "--python-path"]
    refused(dgx_vllm(*words, str(own / "nosuch")), "--python-path", "there is no such directory")
    (own / "torch").mkdir()
    (own / "torch/__init__.py").touch()
    refused(dgx_vllm(*words, str(own)), "has a torch of its own")


def test_the_server_gets_the_directory_in_front_of_what_there_was(start: Start, own: Path) -> None:
    running = start("--python-path", str(own), "--middleware", "single.Name")
    running.await_ready()
    given = running.recorded("environ.json")["PYTHONPATH"].split(os.pathsep)
    assert given[0] == str(own)
    assert len(given) > 1
