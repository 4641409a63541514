"""What bad input gets: one line that says what is wrong and what to do, and a non-zero exit."""

import errno
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from dgx_vllm.host import caches, disk_space
from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.launch.checks import preflight
from dgx_vllm.launch.endpoint import Endpoint, Ready
from dgx_vllm.launch.process.notify import Notifier
from dgx_vllm.launch.settings import environment, limits
from dgx_vllm.launch.settings.environment import removed
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags.flags import load
from helpers.launching import Outcome, Run, complete, free_port, write_safetensors

# A profile with everything that it needs.
PROFILE = 'model = "org/model"\nsummary = "mine"\nmemory-gib = 1\n'


def refused(outcome: Outcome, *said: str, status: int = 2) -> None:
    """One line on standard error, nothing on standard output, and everything said in it."""
    assert outcome.status == status, outcome
    assert outcome.out == ""
    assert re.fullmatch(r"dgx-vllm: [^\n]+\n", outcome.err), outcome.err
    for words in said:
        assert words in outcome.err


# --- values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "0"], ["--port 0", "from 1 to 65535"]),
        (["--port", "70000"], ["--port 70000", "from 1 to 65535"]),
        (["--port", "http"], ["--port", "whole number"]),
        (["--gpu-memory-utilization", "0"], ["--gpu-memory-utilization 0", "above 0 and at most 1"]),
        (["--gpu-memory-utilization", "1.01"], ["at most 1"]),
        (["--gpu-memory-utilization", "nan"], ["at most 1"]),
        (["--gpu-memory-utilization", "90%"], ["a number, not '90%'"]),
        (["--max-model-len", "0"], ["--max-model-len 0", "above 0, or auto"]),
        (["--max-model-len", "-5"], ["--max-model-len"]),
        (["--max-num-seqs", "0"], ["--max-num-seqs 0", "above 0"]),
        (["--max-num-seqs", "-1"], ["--max-num-seqs -1", "above 0"]),
        (["--kv-cache-memory-bytes", "0"], ["--kv-cache-memory-bytes 0", "above 0"]),
        (["--tensor-parallel-size", "0"], ["--tensor-parallel-size 0", "above 0"]),
        (["-tp", "64"], ["--tensor-parallel-size 64", "8 CPU cores"]),
        (["--spec-tokens", "-1"], ["asks for -1 drafts", "above 0"]),
        (["--speculative-config", "x"], ["--speculative-config must be valid JSON, not 'x'"]),
        (["--speculative-config", "[]"], ["--speculative-config must be a JSON object", '"method": "mtp"']),
        (["-sc.num_speculative_tokens=two"], ["num_speculative_tokens must be a whole number", '"two"']),
        (["--compilation-config", "3"], ["--compilation-config must be a JSON object"]),
        (["--limit-mm-per-prompt", "image=1"], ["--limit-mm-per-prompt must be valid JSON"]),
        (["--max-modle-len", "5"], ["no flag --max-modle-len", "did you mean --max-model-len"]),
        (["--rope-scaling", "{}"], ["no flag --rope-scaling; give --hf-overrides"]),
        (["--disable-log-requests"], ["no flag --disable-log-requests; leave it out"]),
        (["-O"], ["no flag -O; give a level, such as -O3"]),
        (["--no-such-thing"], ["see `dgx-vllm serve --help=all`"]),
        (["--lora-modules", "a="], ["--lora-modules must be name=path", "'a='"]),
        (["--lora-modules", '{"name": "", "path": "/srv/a"}'], ["--lora-modules must be name=path"]),
        # What llama.cpp's server calls it.
        (["--ctx-size", "4096"], ["no flag --ctx-size", "--max-model-len"]),
        (["--parallel", "4"], ["no flag --parallel", "--max-num-seqs"]),
        (["-m", "demo"], ["no flag -m;", "dgx-vllm serve MODEL"]),
        (["-ngl", "99"], ["no flag -ngl;", "leave it out"]),
        (["-np", "4"], ["no flag -np;", "--max-num-seqs"]),
        (["-p", "9000"], ["no flag -p;", "did you mean --port?"]),
        (["--jinja"], ["no flag --jinja", "leave it out"]),
        (["--temperature", "0.7"], ["no flag --temperature", "--override-generation-config"]),
        (["--port"], ["--port", "expected one argument"]),
        (["two", "models"], ["unexpected argument 'models'", "'two'"]),
        (["one", "--model", "two"], ["given twice", "'one'", "'two'"]),
        (["--moe-backend", "marlim"], ["'marlim'", "did you mean marlin?"]),
        (["--profile"], ["--profile"]),
        (["--profile", "qwen"], ["no profile 'qwen'"]),
        (["--profile", "demmo"], ["did you mean demo?"]),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else str(each),
)
def test_values_on_the_command_line(dgx_vllm: Run, words: list[str], said: list[str]) -> None:
    refused(dgx_vllm("serve", "--dry-run", *words), *said)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "99999"}, ["port 99999 (PORT)", "from 1 to 65535"]),
        ({"PORT": "tcp://10.0.0.1:80"}, ["PORT must be a whole number", "enableServiceLinks: false"]),
        ({"HOST": "tcp://10.0.0.1:80"}, ["HOST='tcp://10.0.0.1:80'", "enableServiceLinks: false"]),
        ({"MODEL": "tcp://10.0.0.1:80"}, ["MODEL='tcp://10.0.0.1:80'", "enableServiceLinks: false"]),
        ({"GPU_MEMORY_UTIL": "2"}, ["gpu-memory-utilization 2 (GPU_MEMORY_UTIL)", "at most 1"]),
        ({"MAX_MODEL_LEN": "0"}, ["max-model-len 0 (MAX_MODEL_LEN)"]),
        ({"MAX_NUM_SEQS": "none"}, ["MAX_NUM_SEQS must be a whole number"]),
        ({"TENSOR_PARALLEL_SIZE": "9"}, ["tensor-parallel-size 9 (TENSOR_PARALLEL_SIZE)", "8 CPU cores"]),
        ({"VLLM_EXTRA_ARGS": "--no-such-flag"}, ["VLLM_EXTRA_ARGS", "no flag --no-such-flag"]),
        ({"VLLM_EXTRA_ARGS": "'open"}, ["VLLM_EXTRA_ARGS", "check its quotes"]),
        ({"VLLM_EXTRA_ARGS": "a/model"}, ["VLLM_EXTRA_ARGS", "'a/model'", "MODEL"]),
        ({"VLLM_CPU_KVCACHE_SPACE": "lots"}, ["VLLM_CPU_KVCACHE_SPACE", "GiB", "'lots'"]),
        ({"VLLM_CPU_KVCACHE_SPACE": "0"}, ["(VLLM_CPU_KVCACHE_SPACE)", "above 0"]),
    ],
    ids=str,
)
def test_values_in_the_environment(dgx_vllm: Run, environ: dict[str, str], said: list[str]) -> None:
    refused(dgx_vllm("serve", "--dry-run", "org/model", environ=environ), *said)


@pytest.mark.parametrize("name", sorted(set(limits._RANGES) - {"ssl-cert-reqs"}))  # there 0 asks for none
def test_no_setting_with_a_range_may_be_0(dgx_vllm: Run, tmp_path: Path, name: str) -> None:
    refused(dgx_vllm("serve", "org/model", "--dry-run", f"--{name}", "0"), f"--{name} 0", "out of range")
    (tmp_path / "mine.toml").write_text(f"{PROFILE}[serve]\n{name} = 0\n")
    words = ["serve", "--dry-run", "--profile", str(tmp_path / "mine.toml")]
    refused(dgx_vllm(*words), f"{name} 0 (profile mine)", "out of range")
    variable = next((key for key, flag in environment.SETTINGS.items() if flag == name), None)
    if variable:
        outcome = dgx_vllm("serve", "org/model", "--dry-run", environ={variable: "0"})
        refused(outcome, f"{name} 0 ({variable})", "out of range")


def test_more_ranks_than_gpus(dgx_vllm: Run, spark: Machine) -> None:
    words = ["serve", "org/model", "--dry-run", "--tensor-parallel-size", "2"]
    refused(dgx_vllm(*words, on=spark), "--tensor-parallel-size 2", "1 GPU;", "--nnodes")
    assert dgx_vllm(*words, "--nnodes", "2", on=spark).status == 0
    assert dgx_vllm(*words, "--distributed-executor-backend", "ray", on=spark).status == 0


# --- switches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("VLLM_NVFP4_GEMM_BACKEND", "use --linear-backend instead"),
        ("VLLM_USE_FLASHINFER_MOE_FP4", "use --moe-backend instead"),
        ("VLLM_TEST_FORCE_FP8_MARLIN", "use --linear-backend marlin instead"),
        ("VLLM_ATTENTION_BACKEND", "use --attention-backend instead"),
        ("VLLM_USE_V1", "nothing replaces it"),
        ("VLLM_HOST", "give --host or HOST, which this launcher reads"),
        ("VLLM_MODEL", "give --model or MODEL"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "give --gpu-memory-utilization"),
        ("VLLM_LOGING_LEVEL", "did you mean VLLM_LOGGING_LEVEL"),
        ("VLLM_PORTT", "no variable VLLM_PORTT"),
        ("VLLM_ZZZZZZ", "unset VLLM_ZZZZZZ"),
    ],
)
def test_switches_that_vllm_would_ignore(dgx_vllm: Run, name: str, said: str) -> None:
    refused(dgx_vllm("serve", "--dry-run", "org/model", environ={name: "1"}), f"would ignore {name}", said)


def test_all_ignored_switches_are_named_at_once(dgx_vllm: Run) -> None:
    both = {"VLLM_NVFP4_GEMM_BACKEND": "marlin", "VLLM_USE_V1": "1"}
    refused(dgx_vllm("serve", "--dry-run", "org/model", environ=both), *both)


def test_switches_that_vllm_reads_pass(dgx_vllm: Run) -> None:
    reads = {
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_CPU_SIM_MULTI_NUMA": "1",
        "VLLM_EXTRA_ARGS": "--enforce-eager",
    }
    assert dgx_vllm("serve", "--dry-run", "org/model", environ=reads).status == 0


def test_every_removed_switch_names_a_flag_of_today() -> None:
    for name, gone in removed().items():
        if gone.use:
            flag, _, value = gone.use.partition(" ")
            load().require(flag.partition(".")[0], name)
            if value:
                assert load().parse([flag, value])[0] == []


def test_the_installed_vllm_reads_none_of_the_removed_switches() -> None:
    from dgx_vllm.host.machine import detect

    known = environment.known(detect().vllm.package)
    assert len(known) > 200
    assert known.isdisjoint(removed())


def test_a_quantization_that_would_be_ignored(dgx_vllm: Run, checkpoint: Path) -> None:
    refused(dgx_vllm("serve", "--dry-run", "--quantization", "nonsense"), "'nonsense'", "choose from")
    (checkpoint / "config.json").write_text('{"quantization_config": {"quant_method": "modelopt"}}')
    said = ["--quantization awq would be ignored", "ModelOpt", "leave it out"]
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run", "--quantization", "awq"), *said)
    for method in ("modelopt_fp4", "fp8_per_channel"):
        assert dgx_vllm("serve", str(checkpoint), "--dry-run", "--quantization", method).status == 0


def test_more_tokens_than_the_model_has_positions_for(dgx_vllm: Run, checkpoint: Path) -> None:
    words = ["serve", str(checkpoint), "--dry-run", "--max-model-len", "2k"]
    (checkpoint / "config.json").write_text('{"max_position_embeddings": 1024}')
    refused(dgx_vllm(*words), "--max-model-len 2k", "1024 tokens", "lower it")
    assert dgx_vllm(*words, environ={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}).status == 0
    for more in ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, {"model_max_length": 8192}):
        (checkpoint / "config.json").write_text(json.dumps({"max_position_embeddings": 1024, **more}))
        assert dgx_vllm(*words).status == 0


# --- models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["/no/such/model", "./missing", "~/missing", "models/a/b"])
def test_a_model_that_is_not_there(dgx_vllm: Run, model: str) -> None:
    refused(dgx_vllm("serve", model), model, "Hugging Face id such as owner/name")


def test_a_hub_model_offline(dgx_vllm: Run, environment: dict[str, str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    refused(
        dgx_vllm("serve", "org/model", "--dry-run", environ=offline), "org/model is not in", "HF_HUB_OFFLINE"
    )
    snapshot = Path(environment["HF_HOME"], "hub", "models--org--model", "snapshots", "abc")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    lacks = "HF_HUB_OFFLINE forbids fetching what org/model lacks"
    refused(dgx_vllm("serve", "org/model", "--dry-run", environ=offline), lacks, "has no tokenizer")
    (snapshot / "tokenizer.json").write_text("{}")
    refused(dgx_vllm("serve", "org/model", "--dry-run", environ=offline), lacks, "has no weights")
    write_safetensors(snapshot / "model.safetensors", {"weight": 16})
    assert dgx_vllm("serve", "org/model", "--dry-run", environ=offline).status == 0


def test_a_whole_checkpoint_passes(dgx_vllm: Run, checkpoint: Path) -> None:
    assert dgx_vllm("serve", str(checkpoint), "--dry-run").status == 0


def test_a_command_given_as_the_model(dgx_vllm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a directory of that name would be a model
    refused(dgx_vllm("serve", "profiles"), "'profiles' is a command, not a model", "`dgx-vllm profiles`")


def test_every_command_is_known_as_one() -> None:
    from typer.main import get_command

    from dgx_vllm.cli import app

    assert set(preflight.COMMANDS) == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_a_misspelt_model_where_no_hub_answers(fake_environment: dict[str, str]) -> None:
    """Before vLLM starts: its own answer takes a minute and ends in a traceback."""
    environ = {**fake_environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    name = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP5"
    outcome = complete(["serve", name, "--port", str(free_port())], environ)
    assert outcome.status == 1, outcome
    last = outcome.err.splitlines()[-1]
    assert last.startswith(f"dgx-vllm: {name} is not downloaded, and the hub cannot be reached")
    assert last.endswith("did you mean nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4?")


def test_a_checkpoint_without_tokenizer_is_refused(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    refused(dgx_vllm("serve", str(checkpoint), "--dry-run"), "has no tokenizer", "fetch the checkpoint again")
    assert dgx_vllm("serve", str(checkpoint), "--dry-run", "--tokenizer", "owner/name").status == 0


def test_a_file_instead_of_a_directory(dgx_vllm: Run, checkpoint: Path) -> None:
    refused(dgx_vllm("serve", str(checkpoint / "config.json")), "is a file", "directory")


def test_a_checkpoint_without_config_is_refused(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    refused(dgx_vllm("serve", str(checkpoint)), "has no config.json")


OBJECTS = ["config.json", "hf_quant_config.json", "quantize_config.json", "model.safetensors.index.json"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (name, text)
            for name in [*OBJECTS, "modules.json"]
            for text in ('{"a": "qw', "", "<html>", "\xff")
        ),
        *((name, "[1, 2]") for name in OBJECTS),
    ],
)
def test_json_that_is_cut_off(dgx_vllm: Run, checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_bytes(text.encode("latin-1"))
    refused(dgx_vllm("serve", str(checkpoint)), name, "truncated or not JSON", "fetch the checkpoint again")


def test_json_that_is_no_object(dgx_vllm: Run, checkpoint: Path) -> None:
    """Every sentence-transformers checkpoint has such a file."""
    (checkpoint / "modules.json").write_text(
        '[{"idx": 0, "type": "sentence_transformers.models.Transformer"}]'
    )
    assert dgx_vllm("serve", str(checkpoint), "--dry-run", "--runner", "pooling").status == 0


@pytest.mark.parametrize("length", [0, 5, 8, 40, -1, 1], ids=str)
def test_safetensors_that_do_not_fit_their_header(dgx_vllm: Run, checkpoint: Path, length: int) -> None:
    path = checkpoint / "model.safetensors"
    whole = path.read_bytes()
    # A positive length cuts there, -1 cuts the last byte, and 1 stands for a byte too many.
    path.write_bytes(whole + b"x" if length == 1 else whole[:length])
    refused(
        dgx_vllm("serve", str(checkpoint)),
        "model.safetensors",
        "truncated or damaged",
        "fetch the checkpoint again",
    )


@pytest.mark.parametrize("start", [0, 8, 30], ids=["length", "header", "entry"])
def test_safetensors_with_a_damaged_header(dgx_vllm: Run, checkpoint: Path, start: int) -> None:
    path = checkpoint / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 8] = b"\xff" * 8
    path.write_bytes(damaged)
    refused(dgx_vllm("serve", str(checkpoint)), "model.safetensors", "truncated or damaged")


def test_dummy_weights_are_not_looked_at(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"")
    assert dgx_vllm("serve", str(checkpoint), "--load-format", "dummy", "--dry-run").status == 0


def test_a_git_lfs_pointer_is_refused(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    refused(dgx_vllm("serve", str(checkpoint)), "Git LFS pointer", "git lfs pull")


def test_a_checkpoint_without_weights_is_refused(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    refused(dgx_vllm("serve", str(checkpoint)), "has no weights")


def test_an_index_and_its_shards(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    write_safetensors(checkpoint / "1.safetensors", {"a": 4})
    refused(dgx_vllm("serve", str(checkpoint)), "names 2.safetensors", "not there")
    write_safetensors(checkpoint / "2.safetensors", {"c": 4})
    assert dgx_vllm("serve", str(checkpoint), "--dry-run").status == 0
    index.write_text("{}")
    refused(dgx_vllm("serve", str(checkpoint)), "has no weight_map")


# --- profiles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROFILE + 'colour = "red"\n', ["unknown key 'colour'", "known: model, summary, memory-gib"]),
        (PROFILE + "[cpu]\nserves = 1\n", ["unknown key 'serves' in [cpu]", "known: serve, environment"]),
        (PROFILE + 'name = "x"\n', ["unknown key 'name'"]),
        ('summary = "x"\nmemory-gib = 1\n', ["missing required field `model`"]),
        (PROFILE.replace("1", '"much"'), ["memory-gib", "got `str`"]),
        (PROFILE + "[serve]\nmax-modle-len = 1\n", ["serve.max-modle-len", "did you mean --max-model-len"]),
        (
            PROFILE + "[cuda.serve]\nmoe-backend = 'marlim'\n",
            ["cuda.serve.moe-backend", "did you mean marlin"],
        ),
        (PROFILE + "[serve]\nport = true\n", ["serve.port", "needs a value"]),
        (PROFILE + "[serve]\nenforce-eager = 1\n", ["serve.enforce-eager", "takes no value"]),
        (PROFILE + "[serve]\napi-key = 'x'\n", ["serve.api-key", "a profile cannot set it"]),
        ("model = ", ["not valid TOML"]),
    ],
    ids=lambda each: each[-30:] if isinstance(each, str) else "",
)
def test_a_profile_with_a_fault(dgx_vllm: Run, tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    refused(dgx_vllm("serve", "--dry-run", "--profile", str(path)), str(path), *said)


def test_a_profile_file_that_is_not_there(dgx_vllm: Run, tmp_path: Path) -> None:
    refused(dgx_vllm("serve", "--profile", str(tmp_path / "none.toml")), "none.toml", "No such file")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "max-modle-len: 5\n", ["max-modle-len", "did you mean --max-model-len"]),
        ("c.yaml", "port: 0\n", ["port 0", "from 1 to 65535"]),
        ("c.yaml", "- a\n", ["`flag: value` lines"]),
        ("c.yaml", "port: [1, 2]\n", ["'2' is one value too many", "--port takes one value"]),
        ("c.yaml", "speculative-config: [1, 2]\n", ["'2' is one value too many"]),
        ("c.yaml", "a: [\n", ["not valid YAML"]),
        ("c.json", "{}", ["reads .yaml or .yml"]),
        ("none.yaml", None, ["No such file"]),
    ],
)
def test_a_config_file_with_a_fault(
    dgx_vllm: Run, tmp_path: Path, name: str, text: str | None, said: list[str]
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    refused(dgx_vllm("serve", "org/model", "--dry-run", "--config", str(path)), *said)


# --- the machine ----------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_refused(dgx_vllm: Run, checkpoint: Path, taken: int) -> None:
    outcome = dgx_vllm("serve", str(checkpoint), "--port", str(taken))
    refused(outcome, f"port {taken} on 127.0.0.1 is in use", "choose another with --port or PORT", status=1)
    outcome = dgx_vllm("serve", str(checkpoint), environ={"PORT": str(taken)})
    refused(outcome, f"port {taken} on 127.0.0.1 is in use", status=1)


def test_the_port_that_is_suggested_is_free(taken: int) -> None:
    with pytest.raises(UserError) as fault:
        preflight.check_port("127.0.0.1", taken)
    suggested = re.search(r"such as --port (\d+)", str(fault.value))
    assert suggested is not None
    preflight.check_port("127.0.0.1", int(suggested[1]))


def test_hosts_that_are_not_ours(dgx_vllm: Run, checkpoint: Path) -> None:
    # 192.0.2.0/24 is reserved for documentation (RFC 5737), .invalid for names that do not exist (RFC 6761).
    outcome = dgx_vllm("serve", str(checkpoint), "--host", "192.0.2.1")
    refused(outcome, "192.0.2.1 is not an address of this machine", status=1)
    outcome = dgx_vllm("serve", str(checkpoint), "--host", "no-such-host.invalid")
    refused(outcome, "'no-such-host.invalid' does not resolve")


def test_a_privileged_port_is_explained() -> None:
    fault = preflight._bind_fault("127.0.0.1", 80, OSError(errno.EACCES, "Permission denied"))
    assert "port 80" in fault
    assert "from 1024 on" in fault


def test_a_cuda_build_without_a_gpu(dgx_vllm: Run, checkpoint: Path, spark: Machine) -> None:
    headless = replace(spark, gpus=())
    refused(
        dgx_vllm("serve", str(checkpoint), on=headless),
        "no NVIDIA GPU is visible",
        "install the driver",
        status=1,
    )
    planned = dgx_vllm("serve", str(checkpoint), "--dry-run", on=headless)
    assert planned.status == 0
    assert "for a machine that has one" in planned.out


def test_a_full_disk_is_refused(dgx_vllm: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: 100 * 2**20)
    outcome = dgx_vllm("serve", str(checkpoint))
    refused(outcome, "the disk is too full", "0.54 GB", "0.1 GB are free", "VLLM_CACHE_ROOT", status=1)


def test_a_download_that_does_not_fit(dgx_vllm: Run, spark: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_space, "_free", lambda path: 20 * GIB)
    model = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
    refused(dgx_vllm("serve", model, on=spark), f"downloading {model} needs 50.7 GB", "HF_HOME", status=1)


def test_a_download_that_was_begun_needs_room_for_its_rest(
    dgx_vllm: Run, spark: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"
    blobs = tmp_path / "hub" / f"models--{model.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    for name, size in (("a", 20 * GIB), ("b.incomplete", 20 * GIB)):
        with (blobs / name).open("wb") as file:
            file.truncate(size)
    for free in (3, 9):
        monkeypatch.setattr(disk_space, "_free", lambda path, free=free: free * GIB)
        outcome = dgx_vllm("serve", model, on=spark, environ={"HF_HUB_CACHE": str(tmp_path / "hub")})
        assert (f"the rest of {model} needs 7.8 GB more" in outcome.err) == (free == 3)


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
@pytest.mark.parametrize("command", ["serve", "plan"])
def test_a_timeout_that_is_no_number(dgx_vllm: Run, command: str, name: str) -> None:
    outcome = dgx_vllm(command, "org/model", environ={name: "abc"})
    refused(outcome, f"{name}='abc' is not a whole number of seconds above 0")


@pytest.mark.parametrize("parameters", [None, [], {"rope_type": "default"}])
def test_a_model_without_a_rule_for_its_positions(
    dgx_vllm: Run, checkpoint: Path, parameters: object
) -> None:
    path = checkpoint / "config.json"
    path.write_text(
        json.dumps(
            {**json.loads(path.read_text()), "max_position_embeddings": 64, "rope_parameters": parameters}
        )
    )
    refused(dgx_vllm("serve", str(checkpoint), "--max-model-len", "65"), "more than the 64 tokens")


def test_health_asks_a_socket_where_there_is_one(dgx_vllm: Run, tmp_path: Path) -> None:
    place, path = tmp_path / "s", tmp_path / "ready"
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
    ]

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            client, _ = listener.accept()
            with client:
                assert client.recv(4096).startswith(b"GET /health ")
                client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        ready = Ready(Endpoint("http://localhost", str(place)), "m", None, None)
        Notifier({}, path).ready(ready, 1)
        asked = ("health", "--ready-file", str(path))
        assert dgx_vllm(*asked).out == f"{place} is healthy\n"
        refused(dgx_vllm(*asked), str(place), "503", status=1)
        thread.join()


@pytest.mark.parametrize("written", ["", "{}", "[]", '"x"', "{"])
def test_health_of_what_is_no_ready_file(dgx_vllm: Run, tmp_path: Path, written: str) -> None:
    path = tmp_path / "ready"
    path.write_text(written)
    refused(
        dgx_vllm("health", "--ready-file", str(path)), "is not what `serve --ready-file` writes", status=1
    )


def test_a_cache_that_cannot_be_written(dgx_vllm: Run, checkpoint: Path) -> None:
    # /proc takes no files from anyone, root included.
    outcome = dgx_vllm("serve", str(checkpoint), environ={"VLLM_CACHE_ROOT": "/proc/vllm"})
    refused(outcome, "/proc/vllm cannot be written", "set VLLM_CACHE_ROOT", status=1)


def test_a_home_that_cannot_be_written(dgx_vllm: Run, checkpoint: Path) -> None:
    outcome = dgx_vllm(
        *["serve", str(checkpoint)],
        environ={"HOME": "/proc/nobody", "VLLM_CACHE_ROOT": "", "XDG_CACHE_HOME": ""},
    )
    refused(outcome, "/proc/nobody/.cache/vllm cannot be written", "set VLLM_CACHE_ROOT", status=1)


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number only."""

    def nobody(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match="set HOME to a writable one"):
        caches.vllm({})
    assert caches.vllm({"VLLM_CACHE_ROOT": "/c"}) == Path("/c")
    assert caches.hub({"XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert caches.hub({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}) == Path("/h/hub")
    assert caches.hub({"HF_HUB_CACHE": "/hub", "HF_HOME": "/h"}) == Path("/hub")


@pytest.mark.parametrize("name", ["/no/such/place/ready", "/proc"])
def test_a_ready_file_that_cannot_be_written(dgx_vllm: Run, checkpoint: Path, name: str) -> None:
    outcome = dgx_vllm("serve", str(checkpoint), "--ready-file", name)
    refused(outcome, f"--ready-file {name}", status=1)


def test_a_full_disk_leaves_no_part_of_a_ready_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ready.json"
    notifier = Notifier({}, path)

    def full(self: Path, target: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        notifier.ready(Ready(Endpoint("http://127.0.0.1:1"), "m", None, None), 1)
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_system_refuses(dgx_vllm: Run) -> None:
    refused(dgx_vllm("serve", f"./{'x' * 5000}"), "File name too long", status=1)


def test_no_vllm_at_all(environment: dict[str, str], tmp_path: Path) -> None:
    """In a process that finds our package and its dependencies, and no vLLM."""
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'vllm' else find(name, *rest)\n"
        "from dgx_vllm import cli\n"
        "sys.argv = ['dgx-vllm', 'serve']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    refused(Outcome(done.returncode, done.stdout, done.stderr), "vLLM is not installed", status=1)


def test_an_unknown_command(environment: dict[str, str]) -> None:
    refused(complete(["sevre"], environment), "sevre", "did you mean `dgx-vllm serve`?")


def test_nothing_is_left_behind(
    dgx_vllm: Run, environment: dict[str, str], taken: int, checkpoint: Path
) -> None:
    before = sorted(path for path in Path(environment["HOME"]).rglob("*"))
    ready = Path(environment["HOME"]) / "ready.json"
    dgx_vllm("serve", str(checkpoint), "--port", str(taken), "--ready-file", str(ready))
    assert sorted(path for path in Path(environment["HOME"]).rglob("*")) == before
