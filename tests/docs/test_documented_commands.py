"""The commands of the documents: each one runs here, or a table says what runs it or why nothing can."""

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pages import GENERATED, TREE, commands, pages

import dgx_vllm

TABLE: list[dict[str, str]] = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())["command"]
DOCUMENTED = sorted({command for page in pages() if page.name not in GENERATED for command in commands(page)})
DEMO = Path(dgx_vllm.__file__).parent / "demo/checkpoint"
#: Words of the documents that stand for the reader's own.
STANDS_FOR = {"MODEL": "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4", "OUT": str(DEMO)}


def row(command: str) -> dict[str, str] | None:
    return next((entry for entry in TABLE if command.startswith(entry["start"])), None)


def test_every_documented_command_is_in_the_table() -> None:
    assert [command for command in DOCUMENTED if row(command) is None] == []


def test_every_row_of_the_table_has_a_command_and_one_reason() -> None:
    used = [row(command) for command in DOCUMENTED]
    assert [entry["start"] for entry in TABLE if entry not in used] == []
    for entry in TABLE:
        assert len(entry.keys() & {"run", "test", "app", "cannot"}) == 1, entry


@pytest.mark.parametrize("test", sorted({entry["test"] for entry in TABLE if "test" in entry}))
def test_tests_that_the_table_names_exist(test: str) -> None:
    assert (Path(__file__).parents[1] / test).is_file()


def kind(name: str) -> list[str]:
    return [command for command in DOCUMENTED if (row(command) or {}).get("run") == name]


def words(command: str, directory: Path) -> list[str]:
    """The command's arguments behind `dgx-vllm`, with the reader's files made."""
    parts = shlex.split(command)
    parts = parts[next(at for at, part in enumerate(parts) if Path(part).name == "dgx-vllm") + 1 :]
    (directory / "key").write_text("a-key-of-the-reader\n")
    (directory / "mine.toml").write_text('model = "owner/model-NVFP4"\nsummary = "mine"\nmemory-gib = 1.0\n')
    plugins = directory / "plugins/mine"
    plugins.mkdir(parents=True)
    (plugins / "web.py").write_text("class Mark: ...\n")
    places = {"/etc/dgx-vllm/key": str(directory / "key"), "~/plugins": str(directory / "plugins")}
    return [{**STANDS_FOR, **places}.get(part, part) for part in parts if not part.startswith("[")]


def run(
    arguments: list[str], directory: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    program: list[Any] = [sys.executable, "-m", "dgx_vllm.cli", *arguments]
    env = {**environment, "PYTHONPATH": str(Path(dgx_vllm.__file__).parents[1])}
    return subprocess.run(program, cwd=directory, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", kind("dry"))
def test_documented_command_is_accepted(command: str, tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = words(command, tmp_path)
    done = run([*arguments, *([] if "--dry-run" in arguments else ["--dry-run"])], tmp_path, environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", kind("plan"))
def test_documented_plan_prints_a_plan(command: str, tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = words(command, tmp_path)
    shutil.copy(DEMO / "config.json", tmp_path)
    model = next(at for at, word in enumerate(arguments) if at and not word.startswith("-"))
    arguments[model] = str(DEMO)
    done = run([*arguments, "--memory", "128GB"], tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert "weights" in done.stdout


@pytest.mark.parametrize("command", kind("shell"))
def test_documented_shell_command_works(command: str, tmp_path: Path) -> None:
    (tmp_path / "result").touch()
    subprocess.run(command.split("#")[0], shell=True, cwd=tmp_path, env=dict(os.environ), check=True)


def test_profile_of_the_guide_is_a_profile(tmp_path: Path, environment: dict[str, str]) -> None:
    guide = (TREE / "docs/guides/own-profile.md").read_text(encoding="utf-8")
    block = guide[guide.index("    model = ") : guide.index("`nix flake init")]
    (tmp_path / "mine.toml").write_text("\n".join(line[4:] for line in block.split("\n")))
    done = run(["serve", "owner/model-NVFP4", "--profile", "mine.toml", "--dry-run"], tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert "--max-num-seqs 8" in done.stdout
