"""Shell completion: the answers of the program, and real shells that ask it when Tab is pressed."""

import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgx_vllm.commands.completion_scripts import SCRIPTS, write
from dgx_vllm.profiles import profile
from dgx_vllm.vllm_flags import flags
from helpers.processes import PATIENCE

Complete = Callable[..., list[str]]
PROFILES = sorted(each.name for each in profile.builtin())


@pytest.fixture
def complete(run: Callable[..., tuple[int, str, str]], environment: dict[str, str]) -> Complete:
    """What the program answers bash; the last word is the one at the cursor."""

    def call(*words: str) -> list[str]:
        environment["COMP_WORDS"] = "\n".join(["dgx-vllm", *words])
        environment["COMP_CWORD"] = str(len(words))
        environment["_DGX_VLLM_COMPLETE"] = "complete_bash"
        status, out, err = run()
        assert (status, err) == (0, "")
        return out.split()

    return call


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["serv"], ["serve"]),
        (["check-"], ["check-config", "check-environment"]),
        (["logs", "--fo"], ["--follow"]),
        (["serve", "--dry"], ["--dry-run"]),
        (["install-service", "--run"], ["--run-as", "--runner"]),
        (["serve", "--dense-dtype", ""], ["bf16", "fp8", "nvfp4"]),
        (["serve", "--profile", ""], PROFILES),
        (["prune", "--pattern", ""], ["2:4", "4:8-pairs"]),
        (["help", "check-c"], ["check-config"]),
        (["help", "serve", "CacheC"], ["CacheConfig"]),
        (["help", "serve", "max-model"], ["max-model-len"]),
        (["help", "logs", ""], []),
    ],
)
def test_own_commands_options_and_values_are_completed(
    complete: Complete, words: list[str], answers: list[str]
) -> None:
    assert complete(*words) == answers


@pytest.mark.parametrize("command", ["serve", "install-service", "bench-decode"])
def test_every_flag_of_vllm_is_completed(complete: Complete, command: str) -> None:
    names = {name for flag in flags.load().flags for name in flag.names if name.startswith("--")}
    assert names <= set(complete(command, "--"))


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["--kv-cache-dtype", "fp8_e"], ["fp8_e4m3", "fp8_e5m2"]),
        (["demo", "--kv-cache-dtype", "fp8_e"], ["fp8_e4m3", "fp8_e5m2"]),
        (["--kv-cache-dtype", "=", "fp8_e"], ["fp8_e4m3", "fp8_e5m2"]),
        (["--speculative-config.meth"], ["--speculative-config.method"]),
        (["--speculative-config.method", "mt"], ["mtp"]),
        (["--port", ""], []),
        (["--dry-run", "--runner", "poo"], ["pooling"]),
        (["--help=x", "--max-model"], ["--max-model-len"]),
    ],
)
def test_values_and_fields_of_vllms_flags_are_completed(
    complete: Complete, words: list[str], answers: list[str]
) -> None:
    assert complete("serve", *words) == answers


def test_all_choices_of_all_flags_are_completed(complete: Complete) -> None:
    flag = max(flags.load().flags, key=lambda flag: len(flag.choices))
    assert complete("serve", flag.names[0], "") == list(flag.choices)


def test_models_are_profiles_and_what_is_downloaded(complete: Complete, environment: dict[str, str]) -> None:
    hub = Path(environment["HF_HOME"]) / "hub"
    (hub / "models--owner--name").mkdir(parents=True)
    known = sorted([*PROFILES, "owner/name"])
    assert complete("serve", "") == known
    assert complete("serve", "--port", "8000", "--enforce-eager", "") == known
    assert complete("plan", "owner/") == ["owner/name"]
    assert complete("rm", "") == ["owner/name"]
    assert complete("serve", "owner/name", "") == [], "the model is there already"
    assert complete("serve", "./") == [], "the shell completes paths"


def test_servers_are_completed_for_the_commands_that_watch_them(
    complete: Complete, environment: dict[str, str]
) -> None:
    from dgx_vllm.launch.process import registry

    environment["PATH"] = ""  # without systemctl: services of this machine are not the test's
    entry = registry.Entry(
        pid=os.getpid(),
        host=socket.gethostname(),
        model="org/model",
        uses=(),
        url="http://127.0.0.1:9001",
        started=time.time(),
    )
    server = registry.Registration(entry, environment)
    for command in ("stop", "status", "logs", "chat"):
        assert complete(command, "") == ["9001"]
    server.close()
    assert complete("stop", "") == []


@pytest.mark.parametrize("words", [["no-such-command", ""], ["serve", "--no-such-flag", "--no-such"]])
def test_words_that_make_no_sense_have_no_completions(complete: Complete, words: list[str]) -> None:
    assert complete(*words) == []


def test_nothing_slow_is_imported_for_an_answer(environment: dict[str, str]) -> None:
    code = "import sys\nfrom dgx_vllm import cli\ntry: cli.main()\nfinally: print(*sys.modules)"
    words = {"COMP_WORDS": "dgx-vllm\nserve\n--kv-cache-dtype\nf", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **words, "_DGX_VLLM_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "fp8_e4m3\n" in done.stdout
    assert not {"vllm", "torch", "transformers", "huggingface_hub", "httpx"} & set(done.stdout.split())


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A package's share/ with the scripts."""
    write(tmp_path / "share")
    return tmp_path / "share"


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shell_finds_its_script_valid(shell: str, share: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n", share / SCRIPTS[shell][1]], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


#: How each shell starts without the user's settings, and how it finds the script in share/.
STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], "source {share}/bash-completion/completions/dgx-vllm"),
    "zsh": (["-f", "-i"], "fpath+=({share}/zsh/site-functions); autoload -Uz compinit; compinit -u -D"),
    "fish": (["--no-config", "-i"], "source {share}/fish/vendor_completions.d/dgx-vllm.fish"),
}


@pytest.fixture(params=STARTS)
def tab(
    request: pytest.FixtureRequest, share: Path, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[[str], list[str]]]:
    """What a shell makes of a line when Tab is pressed at its end: the words that the command gets."""
    shell: str = request.param
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    command = tmp_path / "bin/dgx-vllm"
    command.parent.mkdir()
    command.write_text(
        "#!/bin/sh\n"
        f'[ -z "$_DGX_VLLM_COMPLETE" ] || exec {sys.executable} -m dgx_vllm.cli\n'
        'printf "<%s>" "$@"; echo "<end>"\n'
    )
    command.chmod(0o755)
    (tmp_path / "a-folder").mkdir()
    options, setup = STARTS[shell]
    path = f"{command.parent}:{environment['PATH']}"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(program, [shell, *options], {**environment, "PATH": path, "TERM": "dumb"})

    def read() -> list[str]:
        heard = b""
        while not (ended := re.search(rb"((?:<[^<>\r\n]*>)*)<end>", heard)):
            ready, _, _ = select.select([terminal], [], [], PATIENCE)
            assert ready, heard
            heard += os.read(terminal, 65536)
        return re.findall(r"<([^>]*)>", ended[1].decode())

    def call(line: str) -> list[str]:
        os.write(terminal, f"{line}\t\n".encode())
        return read()

    os.write(terminal, f"{setup.format(share=share)}\ndgx-vllm\n".encode())
    read()
    yield call
    os.close(terminal)
    os.waitpid(pid, 0)


def test_a_shell_completes_commands_flags_values_and_paths(tab: Callable[[str], list[str]]) -> None:
    assert tab("dgx-vllm install-s") == ["install-service"]
    assert tab("dgx-vllm serve --max-model-l") == ["serve", "--max-model-len"]
    assert tab("dgx-vllm serve --dense-dtype nv") == ["serve", "--dense-dtype", "nvfp4"]
    assert tab("dgx-vllm serve --runner=poo") == ["serve", "--runner=pooling"]
    # zsh takes the slash back where the word ends.
    assert [word.rstrip("/") for word in tab("dgx-vllm serve ./a-fol")] == ["serve", "./a-folder"]
