"""The dry run: the command, where each value is from, and that the line printed is what runs."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dgx_vllm.admission import names
from dgx_vllm.host.machine import Machine
from dgx_vllm.profiles import profile
from helpers.launching import Run, complete, free_port
from helpers.processes import PATIENCE


def rows(text: str) -> list[list[str]]:
    """A table's cells, by the two or more blanks between them."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_every_value_has_its_source(dgx_vllm: Run, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("max-num-seqs: 3\n")
    outcome = dgx_vllm(
        *["serve", "org/model", "--dry-run", "--max-model-len", "1k", "--config", str(config)],
        environ={"PORT": "9000", "VLLM_EXTRA_ARGS": "--seed 7"},
    )
    assert outcome.status == 0
    assert outcome.err == ""
    table = rows(outcome.out)
    assert ["model", "org/model", "the command line"] in table
    assert ["max-model-len", "1k", "--max-model-len"] in table
    assert ["max-num-seqs", "3", f"--config {config}"] in table
    assert ["seed", "7", "VLLM_EXTRA_ARGS"] in table
    assert ["port", "9000", "PORT"] in table
    assert ["host", "127.0.0.1", "default"] in table
    assert ["VLLM_NO_USAGE_STATS", "1", "default"] in table
    assert ["VLLM_EXTRA_ARGS", "(unset)", "its flags are in the command"] in table


def test_what_gives_way_and_why(dgx_vllm: Run, spark: Machine) -> None:
    model = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
    outcome = dgx_vllm("serve", model, "--dry-run", "--kv-cache-memory-bytes", "20G", on=spark)
    assert (
        "gpu-memory-utilization=0.7 (profile qwen3-next-80b-a3b-instruct-nvfp4) gives way to" in outcome.out
    )
    demo = dgx_vllm("serve", "--dry-run", "--gpu-memory-utilization", "0.3", on=spark)
    winner = "gpu-memory-utilization (--gpu-memory-utilization)"
    lost = next(row for row in rows(demo.out) if row[:1] == ["kv-cache-memory-bytes"])
    assert lost[1:4] == ["268435456", "profile demo", winner]
    assert "--kv-cache-memory-bytes" not in demo.out.splitlines()[0]


def test_the_heartbeat_is_not_logged(dgx_vllm: Run) -> None:
    command = dgx_vllm("serve", "org/model", "--dry-run").out.splitlines()[0]
    assert "--disable-access-log-for-endpoints /dgx-vllm/heartbeat" in command
    words = ["--disable-access-log-for-endpoints", "/health"]
    own = dgx_vllm("serve", "org/model", "--dry-run", *words).out.splitlines()[0]
    assert own.count("--disable-access-log-for-endpoints /health,/dgx-vllm/heartbeat") == 1


def test_the_winner_of_three_is_named(dgx_vllm: Run, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("max-num-seqs: 3\n")
    environ = {"MAX_NUM_SEQS": "5", "VLLM_EXTRA_ARGS": "--max-num-seqs 4"}
    outcome = dgx_vllm("serve", "org/model", "--dry-run", "--config", str(config), environ=environ)
    lost = [row for row in rows(outcome.out) if row[:1] == ["max-num-seqs"] and len(row) > 4]
    assert {row[4] for row in lost} == {
        "config file ranks above environment",
        "config file ranks above extra args",
    }


def test_secrets_do_not_show(dgx_vllm: Run) -> None:
    outcome = dgx_vllm(
        "serve", "org/model", "--dry-run", "--api-key", "s3cret", environ={"HF_TOKEN": "t0ken"}
    )
    assert outcome.status == 0
    assert "s3cret" not in outcome.out
    assert "t0ken" not in outcome.out


def test_the_demo_is_what_an_empty_command_line_serves(dgx_vllm: Run) -> None:
    outcome = dgx_vllm("serve", "--dry-run")
    argv = shlex.split(outcome.out.splitlines()[0])
    assert argv[argv.index("--model") + 1] == str(profile.PACKAGE / "demo" / "checkpoint")
    assert argv[argv.index("--served-model-name") + 1] == "demo"
    assert argv == shlex.split(dgx_vllm("serve", "demo", "--dry-run").out.splitlines()[0])


@pytest.mark.parametrize("each", profile.builtin(), ids=lambda each: each.name)
def test_builtin_profiles_plan_on_a_spark(dgx_vllm: Run, spark: Machine, each: profile.Profile) -> None:
    by_name = dgx_vllm("serve", each.name, "--dry-run", on=spark)
    by_model = dgx_vllm("serve", each.model, "--dry-run", on=spark)
    by_profile = dgx_vllm("serve", "--profile", each.name, "--dry-run", on=spark)
    assert by_name.status == by_model.status == by_profile.status == 0
    first = [outcome.out.splitlines()[0] for outcome in (by_name, by_model, by_profile)]
    assert first[0] == first[1] == first[2]
    argv = shlex.split(first[0])
    for name, value in each.values("cuda").items():
        if isinstance(value, str):
            assert argv[argv.index(f"--{name}") + 1] == value


def test_every_value_of_a_builtin_profile_has_a_reason() -> None:
    """A comment stands above each line, or above the run of lines that it begins."""
    for path in sorted((profile.PACKAGE / "profiles").glob("*.toml")):
        explained = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("#"):
                explained = True
            elif not line.strip() or line.startswith("["):
                explained = False
            else:
                assert explained or line.split(" = ")[0] in (
                    *("model", "summary", "gated-delta-net", "checkpoint", "example", "served-model-name"),
                    *("async-scheduling", "enable-auto-tool-choice", "enable-prefix-caching"),
                    *("method", "revision"),
                ), f"{path.name}:{number}: {line}"


def test_a_profile_of_ones_own(dgx_vllm: Run, tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'model = "mine"\nsummary = "x"\nmemory-gib = 1\ncheckpoint = "model"\n'
        '[serve]\nmax-model-len = 77\nserved-model-name = ["a", "b"]\n[environment]\nOMP_NUM_THREADS = "1"\n'
    )
    outcome = dgx_vllm("serve", "--profile", str(path), "--dry-run")
    assert outcome.status == 0, outcome
    line = outcome.out.splitlines()[0]
    assert f"--model {checkpoint}" in line
    assert "--max-model-len 77" in line
    assert "--served-model-name a b" in line
    assert "OMP_NUM_THREADS=1" in line
    other = dgx_vllm("serve", "org/other", "--profile", str(path), "--dry-run")
    assert "--model org/other" in other.out.splitlines()[0]
    assert "profile mine is made for mine and is applied to org/other" in other.out


def test_the_printed_line_runs(fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path) -> None:
    """In a shell, with nothing of the launcher around it: the stand-in gets the argv that `serve` gives."""
    words = [
        "serve",
        str(checkpoint),
        "--port",
        str(free_port()),
        "--served-model-name",
        'it\'s "quoted" $HOME',
        "b",
    ]
    environ = {
        **fake_environment,
        "VLLM_EXTRA_ARGS": "--seed 1",
        "FAKE_VLLM": json.dumps({"exit_after": 0.1}),
        "FAKE_VLLM_RECORD": str(tmp_path),
    }
    planned = complete([*words, "--dry-run"], environ)
    assert planned.status == 0, planned.err
    line = planned.out.splitlines()[0]
    subprocess.run(["sh", "-c", line], env=environ, check=True, timeout=PATIENCE)
    by_line = (
        json.loads((tmp_path / "argv.json").read_text()),
        json.loads((tmp_path / "environ.json").read_text()),
    )
    assert complete(words, environ).status == 1  # the stand-in ends by itself
    by_serve = (
        json.loads((tmp_path / "argv.json").read_text()),
        json.loads((tmp_path / "environ.json").read_text()),
    )
    assert by_line[0] == by_serve[0]
    # The shell's own, and what tells one start of the launcher from another.
    differing = ("_", "PWD", "OLDPWD", "SHLVL", names.SERVER)
    assert {k: v for k, v in by_line[1].items() if k not in differing} == {
        k: v for k, v in by_serve[1].items() if k not in differing
    }
    assert "VLLM_EXTRA_ARGS" not in by_line[1]


def test_help_and_dry_run_import_neither_torch_nor_vllm(
    environment: dict[str, str], checkpoint: Path
) -> None:
    code = (
        "import sys\nfrom dgx_vllm import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    status = ended.code\n"
        "heavy = {'torch', 'vllm', 'transformers', 'httpx'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    for words in (["--help"], ["serve", "--help"], ["serve", str(checkpoint), "--dry-run"], ["profiles"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr


def test_profiles_and_version(dgx_vllm: Run, laptop: Machine, spark: Machine) -> None:
    listed = {row[0]: row for row in rows(dgx_vllm("profiles", on=spark).out) if row}
    for each in profile.builtin():
        row = listed[each.name]
        assert (row[1], row[-1]) == (each.model, each.summary)
        assert "yes" in row
    assert listed["qwen3-next-80b-a3b-instruct-nvfp4"][2:7] == ["50.7 GB", "yes", "65,536", "8", "68"]
    on_laptop = {row[0]: row for row in rows(dgx_vllm("profiles", on=laptop).out) if row}
    for each in profile.builtin():
        assert ("yes" if each.name == "demo" else "no") in on_laptop[each.name]
    small = {row[0]: row for row in rows(dgx_vllm("profiles", "--memory", "60GB", on=laptop).out) if row}
    fitting = {name for name, row in small.items() if "yes" in row}
    assert {"demo", "qwen3.8-27b-nvfp4", "gemma-4-26b-a4b-nvfp4", "gpt-oss-20b"} <= fitting
    assert {"gpt-oss-120b", "qwen3.5-122b-a10b-nvfp4", "nemotron-3-super-120b-a12b-nvfp4"}.isdisjoint(fitting)
    assert dgx_vllm("--version", on=spark).out.startswith("dgx-vllm 0.1.0 (vLLM 0.32.0, cuda build)")
