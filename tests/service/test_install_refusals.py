"""What `dgx-vllm install-service` refuses before it writes a unit."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from wish import LAPTOP, WISH

from dgx_vllm.host import machine
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.service.command import install_service
from dgx_vllm.util.errors import UserError


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect", lambda: LAPTOP)


@pytest.mark.parametrize(
    ("words", "changes", "said"),
    [
        (["./nowhere"], {}, "there is no checkpoint at ./nowhere"),
        ([], {"options": Options(profile="nosuch")}, "nosuch"),
        ([], {"config": Path("/nonexistent.yaml")}, "/nonexistent.yaml"),
        (
            [],
            {"environment_file": Path("/nonexistent")},
            "--environment-file /nonexistent: there is no such file",
        ),
        (
            [],
            {"options": Options(memory_reserve="lots")},
            "--memory-reserve 'lots' is not an amount of memory",
        ),
        ([], {"host": "1.2.3.4.5"}, "does not resolve"),
        ([], {"run_as": "nobody-here"}, "this machine has no such user"),
        (["--max-modle-len", "1"], {}, "did you mean --max-model-len"),
        (["org/m", "org/n"], {}, "unexpected argument 'org/n'"),
        (["org/m", "--model", "org/n"], {}, "the model is given twice"),
        (["--model", "org/m", "--model", "org/n"], {}, "the model is given more than once"),
        ([], {"options": Options(memory_floor="lots")}, "--memory-floor 'lots' is not an amount of memory"),
        ([], {"options": Options(memory_shed="1GB", memory_floor="2GB")}, "is above --memory-shed"),
        ([], {"cache_dir": Path("/srv/nope")}, "--cache-dir needs --run-as USER"),
        ([], {"cache_dir": Path("/srv/nope"), "run_as": "root"}, "make it, and give it to root"),
        (["org/m", "--download-dir", "/srv"], {}, "give --cache-dir DIRECTORY and --run-as USER instead"),
    ],
)
def test_what_serve_would_refuse_is_refused_now(
    capsys: pytest.CaptureFixture[str], words: list[str], changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError) as refused:
        install_service(words, os.environ, replace(WISH, **changes))  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert capsys.readouterr().out == ""


def test_the_callers_environment_is_not_the_units(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_NVFP4_GEMM_BACKEND", "marlin")
    monkeypatch.setenv("MODEL", "./nowhere")
    install_service([], os.environ, WISH)
    assert "[Service]" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--api-key", "sk-1"], ["--api-key=sk-1"], ["--api_key", "sk-1"]])
def test_a_key_is_not_written_into_a_unit(words: list[str]) -> None:
    with pytest.raises(UserError, match="give --api-key-file FILE") as refused:
        install_service(["org/m", *words], os.environ, WISH)
    assert "sk-1" not in str(refused.value)


def test_a_token_is_not_written_into_a_unit() -> None:
    with pytest.raises(UserError, match="give --hf-token-file FILE"):
        install_service(["org/m", "--hf-token", "hf_1"], os.environ, WISH)


def test_a_key_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("api-key: sk-1\n")
    with pytest.raises(UserError, match="give --api-key-file FILE") as refused:
        install_service(["org/m"], os.environ, replace(WISH, config=config))
    assert str(config) in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [["--chat-template", "./t.jinja"], ["--chat-template=t.jinja"], ["--lora-modules", "a=./t.jinja"]],
)
def test_a_relative_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "t.jinja").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        install_service(["org/m", *words], os.environ, WISH)
    assert f"give the whole path, {tmp_path / 't.jinja'}" in str(refused.value)


def test_a_relative_path_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("tokenizer: ./tokenizer\n")
    with pytest.raises(UserError, match=r"yaml, tokenizer \./tokenizer: the service runs"):
        install_service(["org/m"], os.environ, replace(WISH, config=config))


def test_a_chat_template_in_words_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    install_service(["--chat-template", "./{{ messages }}"], os.environ, WISH)
    assert "./{{ messages }}" in capsys.readouterr().out
