"""The file of `install-service --environment-file`: read as systemd reads it, refused as `serve` refuses."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from wish import LAPTOP, WISH

from dgx_vllm import cli
from dgx_vllm.host import machine
from dgx_vllm.host.machine import Gpu
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.service.command import install_service
from dgx_vllm.service.environment_file import parse
from dgx_vllm.util.errors import UserError

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect", lambda: LAPTOP)


# --- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("  A = 1  \r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("# A=1\n; B=2\nC=3 # four\n", {"C": "3 # four"}),
        ("# A=1\\\nB=2\n", {"B": "2"}),
        ('A="a b"\nB=\'c "d"\'\n', {"A": "a b", "B": 'c "d"'}),
        ("A='one' \"two\" three\n", {"A": "onetwothree"}),
        ("A=it's\n", {"A": "it's"}),
        ("A=a \\\n  b\n", {"A": "a   b"}),
        ('A="a\\\nb"\nB="c\nd"\n', {"A": "ab", "B": "c\nd"}),
        ('A="\\$x \\"y\\" \\n"\n', {"A": '$x "y" \\n'}),
        ("A='\\n'\nB=\\n\\\\\n", {"A": "\\n", "B": "n\\"}),
        ("A=$HOME/x\n", {"A": "$HOME/x"}),
        ("A=\nB\nC==1\n", {"A": "", "C": "=1"}),
        ("A='open\nB=2\n", {"A": "open\nB=2\n"}),
        ("", {}),
    ],
)
def test_a_file_is_read_as_systemd_reads_it(text: str, variables: dict[str, str]) -> None:
    """What load_env_file of libsystemd-shared 252 gives, except after a comment that ends in a backslash."""
    assert parse(text).variables == variables


@given(wanted=st.dictionaries(NAMES, TEXT))
def test_what_is_quoted_comes_back(wanted: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        for char in '\\"`$':
            value = value.replace(char, f"\\{char}")
        return f'"{value}"'

    text = "".join(f"{name}={quoted(value)}\n" for name, value in wanted.items())
    assert parse(text).variables == wanted


@given(text=st.text(st.sampled_from("AB=='\"\\\n\r \t#;x$é"), max_size=40))
def test_no_text_ends_in_an_error(text: str) -> None:
    found = parse(text)
    assert all(name and name.isidentifier() for name in found.variables)


@pytest.mark.parametrize("line", ["export A=1", "1A=1", "A-B=1", "A", "\ufeffA=1", "A=\x01"])
def test_lines_that_systemd_passes_over_are_kept_apart(line: str) -> None:
    found = parse(f"{line}\nB=2\n")
    assert (found.variables, found.ignored) == ({"B": "2"}, (line,))


# --- installing -----------------------------------------------------------------------------------------


def install(tmp_path: Path, text: str, *words: str, **changes: object) -> None:
    file = tmp_path / "env"
    file.write_text(text)
    wish = replace(WISH, environment_file=file, **changes)  # type: ignore[arg-type]
    install_service(words, os.environ, wish)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("VLLM_USE_V1=1\n", "VLLM_USE_V1 was removed after 0.10.2"),
        ("VLLM_LOGING_LEVEL=DEBUG\n", "did you mean VLLM_LOGGING_LEVEL"),
        ("VLLM_EXTRA_ARGS=--nosuch\n", "no flag --nosuch"),
        ("VLLM_EXTRA_ARGS='--max-num-seqs 0'\n", "out of range"),
        ('VLLM_EXTRA_ARGS="--served-model-name \\"x"\n', "check its quotes"),
        ("PORT=http\n", "PORT must be a whole number"),
        ("PORT=70000\n", "port 70000 (PORT)"),
        ("HOST=1.2.3.4.5\n", "does not resolve"),
        ("MODEL=./nowhere\n", "there is no checkpoint at ./nowhere"),
        ("GPU_MEMORY_UTIL=2\n", "gpu-memory-utilization 2 (GPU_MEMORY_UTIL)"),
        ("TENSOR_PARALLEL_SIZE=\\\n9\n", "more than this machine's 8 CPU cores"),
        ("MAX_MODEL_LEN=0\n", "max-model-len 0"),
        ("VERBOSE=yes\n", "VERBOSE='yes': it must be a whole number"),
        ("VLLM_PORT=tcp://10.0.0.20:8000\n", "enableServiceLinks: false"),
        ("HF_HUB_DOWNLOAD_TIMEOUT=soon\n", "HF_HUB_DOWNLOAD_TIMEOUT='soon'"),
        ("HF_ENDPOINT=hub\n", "HF_ENDPOINT='hub'"),
        ("VLLM_API_KEY=\u00e4\n", "a key that no client can send"),
    ],
)
def test_what_serve_would_refuse_of_its_environment_is_refused_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    with pytest.raises(UserError) as refused:
        install(tmp_path, text)
    assert said in str(refused.value)
    assert capsys.readouterr().out == ""


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^--environment-file {tmp_path / 'env'}: "):
        install(tmp_path, "VLLM_USE_V1=1\n")


def test_what_systemd_does_not_take_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "# VLLM_USE_V1=1\n;PORT=x\nexport VLLM_USE_V1=1\n")
    assert "systemd ignores 'export VLLM_USE_V1=1'" in capsys.readouterr().err


def test_a_byte_order_mark_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, "\ufeffPORT=9000\n")
    assert "save the file without a byte order mark" in capsys.readouterr().err


def test_a_comment_after_a_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there, a comment needs its own line"):
        install(tmp_path, "MAX_MODEL_LEN=4096 # tokens\n")


def test_a_comment_may_be_in_any_encoding_and_a_variable_may_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd looks at keys and values alone."""
    file = tmp_path / "env"
    file.write_bytes(b"# Schl\xfcssel\nGr\xfc\xdfe\nMODEL=org/m\n")
    install_service([], os.environ, replace(WISH, environment_file=file))
    assert '"org/m"' in capsys.readouterr().out
    file.write_bytes(b"NAME=\xfc\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        install_service(["org/m"], os.environ, replace(WISH, environment_file=file))


def test_a_byte_of_zero_is_refused_as_systemd_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes("PORT=9000\n".encode("utf-16-le"))
    with pytest.raises(UserError, match="null byte, which systemd rejects; save it as UTF-8"):
        install_service(["org/m"], os.environ, replace(WISH, environment_file=tmp_path / "env"))


def test_a_flag_ranks_above_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, "HOST=0.0.0.0\nPORT=9000\n", host="127.0.0.1")
    said = capsys.readouterr()
    assert "listens on" not in said.err
    assert '"--port"' not in said.out


def test_the_files_model_is_downloaded_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, "MODEL=org/m\n")
    assert '"download" "--if-missing" "org/m"' in capsys.readouterr().out


def test_a_key_in_the_file_and_one_in_a_file_of_its_own_are_refused(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k\n")
    with pytest.raises(UserError, match="both give a key"):
        install(tmp_path, "VLLM_API_KEY=l\n", options=Options(api_key_file=key))


def test_a_file_that_may_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "env"
    wish = replace(WISH, environment_file=Path(f"-{file}"))
    install_service([], os.environ, wish)
    assert f"EnvironmentFile=-{file}\n" in capsys.readouterr().out
    file.write_text("VLLM_USE_V1=1\n")
    with pytest.raises(UserError, match="VLLM_USE_V1 was removed"):
        install_service([], os.environ, wish)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b"A=\xff\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        install_service([], os.environ, replace(WISH, environment_file=tmp_path / "env"))


def test_a_model_that_the_file_keeps_from_the_hub_must_be_in_the_services_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"HF_HUB_OFFLINE=1\nHF_HOME={tmp_path}\n"
    with pytest.raises(UserError, match=f"org/m is not in {tmp_path}/hub, and HF_HUB_OFFLINE"):
        install(tmp_path, text, "org/m")
    snapshot = tmp_path / "hub/models--org--m/snapshots/main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    install(tmp_path, text, "org/m")
    assert '"serve" "org/m"' in capsys.readouterr().out
    drafts = ["--spec-model", "org/draft", "--spec-tokens", "2"]
    with pytest.raises(UserError, match=f"org/draft is not in {tmp_path}/hub, and HF_HUB_OFFLINE"):
        install(tmp_path, text, "org/m", *drafts)
    shutil.copytree(tmp_path / "hub/models--org--m", tmp_path / "hub/models--org--draft")
    install(tmp_path, text, "org/m", *drafts)


# --- open to the network --------------------------------------------------------------------------------

SENTENCE = "and requires no key; give --api-key-file, or put a reverse proxy with TLS in front of 127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_address_without_a_key_is_named(capsys: pytest.CaptureFixture[str], host: str) -> None:
    install_service([], os.environ, replace(WISH, host=host))
    said = capsys.readouterr()
    assert f"the server listens on {host} {SENTENCE}" in said.err
    assert f'"--host" "{host}"' in said.out


def test_an_open_address_of_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("host: 0.0.0.0\n")
    install_service([], os.environ, replace(WISH, config=config))
    assert SENTENCE in capsys.readouterr().err
    for text in ("HOST=0.0.0.0\n", "VLLM_EXTRA_ARGS=--host=0.0.0.0\n"):
        install(tmp_path, text)
        assert SENTENCE in capsys.readouterr().err
        install(tmp_path, f"{text}VLLM_API_KEY=k\n")
        assert "listens on" not in capsys.readouterr().err


def test_a_key_file_or_the_loopback_address_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("k\n")
    install_service([], os.environ, replace(WISH, host="0.0.0.0", options=Options(api_key_file=key)))
    for host in ("127.0.0.1", "localhost", "::1", "127.0.1.1"):
        install_service([], os.environ, replace(WISH, host=host))
    assert "listens on" not in capsys.readouterr().err


@pytest.mark.skipif("SERVICE_MATRIX" not in os.environ, reason="SERVICE_MATRIX names no file")
def test_the_module_says_the_same_sentence() -> None:
    warned = json.loads(Path(os.environ["SERVICE_MATRIX"]).read_text())["warned"]["open"]
    assert [SENTENCE.replace("give --api-key-file", "set apiKeyFile") in each for each in warned] == [True]


def test_a_python_path_of_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(tmp_path, "PYTHONPATH=/srv/own\n")
    assert "PYTHONPATH does not reach the server; give --python-path DIRECTORY" in capsys.readouterr().err


# --- the command that the NixOS module checks variables by ------------------------------------------------


def test_a_file_of_variables_is_checked_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text('VLLM_EXTRA_ARGS="--max-num-seqs 4"\nOMP_NUM_THREADS=4\n')
    done = CliRunner().invoke(cli.app, ["check-environment", str(file)])
    assert (done.exit_code, done.stdout) == (0, f"{file}: 2 variables\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("VLLM_USE_V1=1\n", "VLLM_USE_V1 was removed"),
        ("VLLM_EXTRA_ARGS=--nosuch\n", "no flag --nosuch"),
        ("PORT=http\n", "PORT must be a whole number"),
        ("VERBOSE=yes\n", "VERBOSE='yes'"),
        ("HF_ENDPOINT=hub\n", "HF_ENDPOINT='hub'"),
        ("export A=1\n", "systemd ignores 'export A=1'"),
    ],
)
def test_a_bad_file_of_variables_is_refused_by_itself(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "env").write_text(text)
    done = CliRunner().invoke(cli.app, ["check-environment", str(tmp_path / "env")])
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)


def test_sleep_mode_warns_where_a_service_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm = replace(LAPTOP.vllm, platform="cuda", has_command=True)
    spark = replace(LAPTOP, vllm=vllm, gpus=(Gpu("NVIDIA GB10", None),))
    monkeypatch.setattr(machine, "detect", lambda: spark)
    install(tmp_path, "VLLM_EXTRA_ARGS=--enable-sleep-mode\n", "org/m")
    assert "vllm#50011" in capsys.readouterr().err
