"""What `dgx-vllm install-service` makes of a command line."""

import configparser
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner
from wish import LAPTOP, WISH

import dgx_vllm
from dgx_vllm import cli
from dgx_vllm.host import machine
from dgx_vllm.launch.serve import decide
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.service.command import Wish, install_service
from dgx_vllm.util.errors import UserError

Sections = dict[str, dict[str, str]]
DOWNLOAD = "dgx-vllm-main-download.service"
SERVER = "dgx-vllm-main.service"


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect", lambda: LAPTOP)
    monkeypatch.setenv("DGX_VLLM_COMMAND", "/bin/dgx-vllm")


def units(text: str) -> dict[str, Sections]:
    """The units of a dry run; of a directive that comes more than once, the last."""
    found = {}
    for block in text.split("# /etc/systemd/system/")[1:]:
        name, _, body = block.partition("\n")
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(body)
        found[name] = {section: dict(parser[section]) for section in parser.sections()}
    return found


class Make(Protocol):
    """A dry run: the command of each unit, and as `text` all that was said."""

    def __call__(self, *words: str, wish: Wish = WISH) -> dict[str, str]: ...


@pytest.fixture
def made(capsys: pytest.CaptureFixture[str]) -> Make:
    def make(*words: str, wish: Wish = WISH) -> dict[str, str]:
        install_service(words, os.environ, wish)
        text = capsys.readouterr().out
        commands = {name: each["Service"]["ExecStart"].replace('"', "") for name, each in units(text).items()}
        return {"text": text, **commands}

    return make


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["org/m", "--enforce-eager"], "--enforce-eager"),
        (["--enforce-eager", "org/m"], "--enforce-eager"),
        (["--tokenizer", "org/m", "--enforce-eager", "org/m"], "--tokenizer org/m --enforce-eager"),
        (["--model", "org/m", "--enforce-eager"], "--enforce-eager"),
        (["--enforce-eager", "--model=org/m"], "--enforce-eager"),
        (["--tokenizer", "org/m", "--model", "org/m"], "--tokenizer org/m"),
        (["org/m", "--model", "org/m", "--tokenizer=org/m"], "--tokenizer=org/m"),
    ],
)
def test_the_model_is_told_from_the_other_words(made: Make, words: list[str], extra: str) -> None:
    found = made(*words)
    assert found[SERVER].startswith("/bin/dgx-vllm serve org/m ")
    assert found[SERVER].endswith(f"/ready.json {extra}")
    assert found[DOWNLOAD].endswith("--if-missing org/m")
    assert "Description=vLLM serving org/m\n" in found["text"]


def test_a_model_by_flag_may_be_a_relative_directory(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = Path(dgx_vllm.__file__).resolve().parent / "demo/checkpoint"
    monkeypatch.chdir(demo.parent)
    found = made("--model", "./checkpoint")
    assert found[SERVER].startswith(f"/bin/dgx-vllm serve {demo} ")
    assert DOWNLOAD not in found


def test_a_model_of_the_settings_file_is_downloaded_too(made: Make, tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("model: org/m\n")
    found = made(wish=replace(WISH, config=config))
    assert found[DOWNLOAD].endswith("--if-missing org/m")
    assert f"serve org/m --config {config}" in found[SERVER]
    # What serve makes of the two is the same model.
    words = found[SERVER].split()[2:5]
    assert decide(words, {}, Options(), LAPTOP).model == "org/m"


def test_address_and_port_are_left_to_the_settings(made: Make, tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("port: 9000\n")
    found = made("org/m", wish=replace(WISH, config=config))
    assert "--port" not in found[SERVER]
    assert "--host" not in found[SERVER]
    found = made("org/m", wish=replace(WISH, config=config, host="::1", port=1234))
    assert "--host ::1 --port 1234" in found[SERVER]


def test_the_model_alone_keeps_the_server_off_the_hub(made: Make) -> None:
    drafts = '{"method": "ngram", "num_speculative_tokens": 2}'
    for words in ([], ["--tokenizer", "org/m"], ["--tokenizer", "/srv/t"], ["--speculative-config", drafts]):
        found = made("org/m", *words)
        assert "HF_HUB_OFFLINE" in found["text"], words


@pytest.mark.parametrize(
    "words",
    [
        ["--tokenizer", "org/tokenizer"],
        ["--tokenizer-revision", "v1"],
        ["--hf-config-path", "org/config"],
        ["--enable-lora", "--lora-modules", "a=org/lora"],
    ],
)
def test_what_the_download_leaves_the_server_may_fetch(made: Make, words: list[str]) -> None:
    found = made("org/m", *words)
    assert found[DOWNLOAD].endswith("--if-missing org/m")
    assert "HF_HUB_OFFLINE" not in found["text"]


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["--spec-model", "org/draft", "--spec-tokens", "2"], {"model": "org/draft"}),
        (["--speculative-config", '{"model": "org/draft"}'], {"model": "org/draft"}),
        (
            ["--speculative-config.model", "org/draft", "--speculative-config.revision", "v1"],
            {"model": "org/draft", "revision": "v1"},
        ),
    ],
)
def test_the_draft_model_is_downloaded_and_the_server_kept_off_the_hub(
    made: Make, words: list[str], config: dict[str, str]
) -> None:
    found = made("org/m", *words)
    command = units(found["text"])[DOWNLOAD]["Service"]["ExecStart"]
    spelt = json.dumps(json.dumps(config, separators=(",", ":")))
    assert command.endswith(f'"--if-missing" "--speculative-config" {spelt} "org/m"')
    assert "HF_HUB_OFFLINE" in found["text"]


def test_a_profiles_draft_model_is_left_to_the_profile_and_others_overrule_it(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = {"speculative-config": {"method": "eagle3", "num_speculative_tokens": 2, "model": "org/draft"}}
    mine = Profile(model="org/m", summary="", memory_gib=1, name="mine", serve=serve)
    monkeypatch.setattr(profile, "builtin", lambda: (mine,))
    found = made("org/m")
    assert found[DOWNLOAD].endswith("--if-missing org/m")
    assert "HF_HUB_OFFLINE" in found["text"]
    demo = Path(dgx_vllm.__file__).resolve().parent / "demo/checkpoint"
    for words in (["--spec-tokens", "0"], ["-sc", '{"method": "mtp"}'], ["-sc.model", str(demo)]):
        found = made("org/m", *words)
        assert found[DOWNLOAD].endswith("--if-missing --speculative-config null org/m"), words
        assert "HF_HUB_OFFLINE" in found["text"]
    found = made("org/m", "-sc.revision", "v1")
    assert "org/draft" in found[DOWNLOAD]
    assert "v1" in found[DOWNLOAD]


def test_a_draft_model_and_a_tokenizer_of_one_name_are_not_one_download(made: Make) -> None:
    found = made("org/m", "--spec-model", "org/draft", "--spec-tokens", "2", "--tokenizer", "org/draft")
    assert "HF_HUB_OFFLINE" not in found["text"]


def test_a_revision_is_that_of_the_download(made: Make, tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("revision: v1\n")
    for found in (
        made("org/m", wish=replace(WISH, revision="v1")),
        made("org/m", wish=replace(WISH, config=config)),
    ):
        assert found[DOWNLOAD].endswith("download --if-missing --revision v1 org/m")
        assert "--revision v1" in found[SERVER]
        # The launcher finds a model in the cache by its main alone.
        assert "HF_HUB_OFFLINE" not in found["text"]


def test_the_command_takes_what_serve_takes() -> None:
    limits = ["--memory-reserve", "8GB", "--memory-shed", "3GB", "--memory-floor", "1GB"]
    words = ["org/m", *limits, "--revision", "v1", "--dry-run", "--name", "main"]
    done = CliRunner().invoke(cli.app, ["install-service", *words])
    assert done.exit_code == 0, done.exception
    command = units(done.stdout)[SERVER]["Service"]["ExecStart"].replace('"', "")
    assert "--memory-shed 3GB --memory-floor 1GB" in command
    assert "--revision v1" in command
    assert "--port" not in command


def test_the_download_is_told_how_the_model_is_read(made: Make, tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("config-format: mistral\n")
    found = made("org/m", "--load-format", "mistral", wish=replace(WISH, config=config))
    assert found[DOWNLOAD].endswith("--if-missing --load-format mistral --config-format mistral org/m")


def test_a_directory_of_modules_is_given_whole_and_shown_to_the_server(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.py").touch()
    monkeypatch.chdir(tmp_path)
    found = made("--middleware", "mine.Mark", wish=replace(WISH, options=Options(python_path=Path("own"))))
    assert f"--python-path {tmp_path}/own" in found[SERVER]
    with pytest.raises(UserError, match="this server does not have the Python module mine"):
        made("--middleware", "mine.Mark")
