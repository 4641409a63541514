"""The command line as a whole: help, versions, and answers to commands that do not exist."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from dgx_vllm.cli import app
from dgx_vllm.commands import hint

Run = Callable[..., tuple[int, str, str]]
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_in_three_spellings(run: Run, command: str) -> None:
    status, long, _ = run(command, "--help")
    assert status == 0
    assert f"dgx-vllm {command}" in long
    assert re.search("--help +-h ", long)
    assert "<bool>" not in long
    assert run(command, "-h") == (0, long, "")
    status, by_help, _ = run("help", command)
    assert status == 0
    assert by_help.splitlines() == long.splitlines()


def test_without_a_command_there_is_help_in_groups(run: Run) -> None:
    alone = run()
    assert alone[0] == 0
    for words in (["-h"], ["--help"], ["help"]):
        assert run(*words) == alone
    places = [alone[1].index(f"─ {group} ─") for group in ("Serve and watch", "Models", "Measure and prune")]
    assert places == sorted(places)
    for command in COMMANDS:
        assert f"│ {command} " in alone[1]


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_version_names_the_package_and_vllm(run: Run, words: list[str]) -> None:
    status, out, _ = run(*words)
    assert status == 0
    assert out.startswith("dgx-vllm 0.")
    assert "vLLM" in out


@pytest.mark.parametrize("spelling", ["-dph", "-sc.method=mtp", "-h.x"])
def test_an_h_inside_a_short_flag_is_no_call_for_help(run: Run, spelling: str) -> None:
    assert "Usage" not in run("serve", "demo", spelling, "--dry-run")[1]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("run", "`dgx-vllm serve MODEL` starts a server, `dgx-vllm chat` talks to it"),
        ("pull", "that is `dgx-vllm download` here"),
        ("ls", "that is `dgx-vllm list` here"),
        ("show", "that is `dgx-vllm plan` here"),
        ("start", "that is `dgx-vllm serve` here"),
        ("sevre", "did you mean `dgx-vllm serve`?"),
        ("docotr", "did you mean `dgx-vllm doctor`?"),
        ("prof", "did you mean `dgx-vllm profiles`?"),
        ("config", "did you mean `dgx-vllm check-config`?"),
        ("install_service", "did you mean `dgx-vllm install-service`?"),
        ("org/model", "to serve it: dgx-vllm serve org/model"),
        ("demo", "to serve it: dgx-vllm serve demo"),
        ("frobnicate", "see `dgx-vllm --help`"),
    ],
)
def test_a_command_that_does_not_exist(run: Run, word: str, said: str) -> None:
    assert run(word) == (2, "", f"dgx-vllm: there is no command {word!r}; {said}\n")


def test_a_flag_of_serve_in_front_of_the_command(run: Run) -> None:
    status, _, err = run("--max-model-len", "4096")
    assert status == 2
    assert "put it after the command: dgx-vllm serve --max-model-len" in err


def test_help_is_shown_without_vllm_and_what_serves(environment: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dgx_vllm import cli\n"
        "sys.argv = ['dgx-vllm', '-h']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'vllm', 'httpx', 'huggingface_hub', 'numpy', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [[], ["profiles"], ["serve", "--help=all"]])
def test_a_reader_that_leaves_early_is_no_fault(environment: dict[str, str], words: list[str]) -> None:
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "dgx_vllm.cli", *words],
        env=environment,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.close(ours)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


def test_hints_name_commands_that_exist() -> None:
    named = {command.split()[0] for command in hint._ELSEWHERE.values()}
    assert named <= set(COMMANDS)
    assert not set(hint._ELSEWHERE) & set(COMMANDS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dgx-vllm st", ["status", "stop"]),
        ("dgx-vllm serve --max-mod", ["--max-model-len"]),
        ("dgx-vllm serve --watch", ["--watchdog"]),
        ("dgx-vllm chat --u", ["--url"]),
        ("dgx-vllm list --max", []),
    ],
)
def test_a_shell_completes_commands_and_flags(
    environment: dict[str, str], typed: str, offered: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dgx_vllm.cli"],
        env={
            **environment,
            "_DGX_VLLM_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == offered
