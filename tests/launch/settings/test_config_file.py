"""The file of --config: the value that vLLM takes from it is the one that the launcher goes by."""

from pathlib import Path

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings import config_file
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from helpers.launching import Outcome, Run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def planned(
    machine: Machine, file: Path, text: str, flags: dict[str, object], serve: dict[str, object]
) -> Launch:
    file.write_text(text)
    mine = Profile(model="org/model", summary="", memory_gib=1, serve=serve, name="mine")
    given = {"config": str(file), **flags}
    request = Request(given, {}, mine, config=config_file.read(str(file)))  # type: ignore[arg-type]
    return render(resolve(request, machine, frozenset()))


def row(outcome: Outcome, name: str) -> str:
    """The value that --dry-run prints for a setting."""
    assert outcome.status == 0, outcome
    (line,) = [line for line in outcome.out.splitlines() if line.strip().startswith(f"{name} ")]
    return line.split()[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no-enable-prefix-caching: true\n", "off"),
        ("no_enable_prefix_caching: true\n", "off"),
        ("enable-prefix-caching: false\n", "off"),
        ("enable-prefix-caching: true\n", "on"),
        ("enable_prefix_caching: true\n", "on"),
    ],
)
def test_the_report_shows_what_a_switch_means_to_vllm(
    dgx_vllm: Run, file: Path, text: str, shown: str
) -> None:
    file.write_text(text)
    outcome = dgx_vllm("serve", "org/model", "--dry-run", "--config", str(file))
    assert row(outcome, "enable-prefix-caching") == shown


def test_refusals_follow_from_what_a_switch_means(dgx_vllm: Run, file: Path) -> None:
    """Drafts on GDN layers do not go with prefix caching on the CPU, and do without."""
    words = [
        "serve",
        "demo",
        "--spec-method",
        "mtp",
        "--spec-tokens",
        "2",
        "--dry-run",
        "--config",
        str(file),
    ]
    file.write_text("no-enable-prefix-caching: true\n")
    assert dgx_vllm(*words).status == 0
    file.write_text("enable-prefix-caching: true\n")
    assert "give --no-enable-prefix-caching" in dgx_vllm(*words).err


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("enable_prefix_caching: false\n", "give `no-enable-prefix-caching: true`"),
        ("no-enable-prefix-caching: false\n", "give `enable-prefix-caching: true`"),
        ("no_async_scheduling: false\n", "give `async-scheduling: true`"),
        ("headless: false\n", "leave it out"),
        ("port: false\n", "leave it out"),
        ("served-model-name: []\n", "leave it out"),
        ("enable-prefix-caching: true\nenable-prefix-caching: false\n", "twice; keep one"),
        ("enable-prefix-caching: true\nno-enable-prefix-caching: true\n", "keep one"),
        ("max-model-len: 512\nmax_model_len: 1024\n", "keep one"),
        ("gpu-memory-utilization: 0.5\ndevice-memory-utilization: 0.6\n", "keep one"),
        ("speculative-config: {method: mtp, method: eagle}\n", "twice; keep one"),
        ("speculative-config.method: mtp\nspeculative-config: {}\n", "keep one"),
        ("speculative-config.method: mtp\nspeculative_config.method: eagle\n", "keep one"),
        ("tp: 2\n", "did you mean --tensor-parallel-size"),
        ("speculative-config.disable_padded_drafter_batch: true\n", "give `speculative-config: {disable"),
        ("speculative-config.disable_padded_drafter_batch: false\n", "give `speculative-config: {disable"),
        ("host: [a, b]\n", "takes one value"),
        ("middleware: [a, b]\n", "more by the command line"),
        ("enforce-eager: 1\n", "takes true"),
        ('enforce-eager: "true"\n', "takes true, without quotes"),
        ("served-model-name: no\n", "put a text in quotes"),
        ("hf-overrides: &a {x: *a}\n", "contains itself"),
        ("serve: {max-model-len: 512}\n", "write flags at the top of the file"),
        ("--max-model-len: 512\n", "no flag ----max-model-len; did you mean --max-model-len?"),
        ("lora-modules: [{name: a, path: b}]\n", 'give \'{"name": "a", "path": "b"}\' in quotes'),
        ("tool-parser-plugin:\n", "leave it out"),
        ("served-model-name: [a, --port, '80']\n", "begins with a dash"),
        ("seed: -0.5\n", "on the command line"),
        ("hf-overrides: {a: 2020-01-01}\n", "quotes"),
        ("on: 1\n", "quotes"),
    ],
)
def test_what_vllm_would_ignore_is_refused_with_what_works(
    dgx_vllm: Run, file: Path, text: str, remedy: str
) -> None:
    file.write_text(text)
    for words in (["serve", "org/model", "--dry-run", "--config"], ["check-config"]):
        outcome = dgx_vllm(*words, str(file))
        assert outcome.status == 2, outcome
        assert remedy in outcome.err


def test_a_profiles_value_stays_where_the_file_is_silent(spark: Machine, file: Path) -> None:
    launch = planned(spark, file, "port: 9000\n", {}, {"enable-prefix-caching": True})
    assert "--enable-prefix-caching" in launch.argv


def test_a_false_is_repeated_for_the_command_which_ignores_it(
    spark: Machine, laptop: Machine, file: Path
) -> None:
    for machine, repeated in ((spark, True), (laptop, False)):
        launch = planned(machine, file, "enable-prefix-caching: false\n", {}, {"enable-prefix-caching": True})
        assert launch.text("enable-prefix-caching") == "off"
        assert ("--no-enable-prefix-caching" in launch.argv) is repeated
        assert "--enable-prefix-caching" not in launch.argv


def test_single_fields_in_a_file_are_all_that_vllm_sees(spark: Machine, file: Path) -> None:
    drafting = {"speculative-config": {"method": "mtp", "num_speculative_tokens": 2}}
    text = "speculative-config.method: ngram\nspeculative-config.num_speculative_tokens: 3\n"
    launch = planned(spark, file, text, {}, drafting)
    assert launch.settings["speculative-config"].value == {"method": "ngram", "num_speculative_tokens": 3}
    assert not [word for word in launch.argv if word.startswith("--speculative")]


def test_single_fields_in_a_file_cannot_be_overruled(spark: Machine, file: Path) -> None:
    """vLLM reads them last, behind the command line's."""
    text = "compilation-config.mode: 3\n"
    flags = {"compilation-config": {"mode": 0}}
    with pytest.raises(UserError, match=r'write them there as `compilation-config: \{"mode": 3\}`'):
        planned(spark, file, text, flags, {})


def test_an_empty_value_takes_vllms_default_for_a_profiles(spark: Machine, file: Path) -> None:
    launch = planned(spark, file, "kv-cache-memory-bytes:\n", {}, {"kv-cache-memory-bytes": "4096"})
    assert launch.text("kv-cache-memory-bytes") is None
    assert "--kv-cache-memory-bytes" not in launch.argv


def test_an_empty_value_cannot_take_back_what_the_file_gives(spark: Machine, file: Path) -> None:
    with pytest.raises(UserError, match="delete it there"):
        planned(spark, file, "tokenizer-revision: abc\n", {"tokenizer-revision": "None"}, {})


def test_a_file_that_the_environment_names_is_read(dgx_vllm: Run, file: Path) -> None:
    file.write_text("port: 9000\n")
    outcome = dgx_vllm("serve", "org/model", "--dry-run", environ={"VLLM_EXTRA_ARGS": f"--config {file}"})
    assert row(outcome, "port") == "9000"


def test_a_switch_that_is_off_is_not_taken_for_one_that_is_given(
    dgx_vllm: Run, checkpoint: Path, file: Path
) -> None:
    (checkpoint / "tokenizer.json").unlink()
    words = ["serve", str(checkpoint), "--dry-run", "--config", str(file)]
    file.write_text("skip-tokenizer-init: true\n")
    assert dgx_vllm(*words).status == 0
    file.write_text("no-skip-tokenizer-init: true\n")
    assert "tokenizer" in dgx_vllm(*words).err
