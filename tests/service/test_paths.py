"""Paths among vLLM's flags: a service takes them whole, wherever in a value they are."""

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from wish import LAPTOP, WISH

import dgx_vllm
from dgx_vllm.host import machine
from dgx_vllm.launch.settings import path_flags
from dgx_vllm.launch.settings.path_flags import Kind
from dgx_vllm.launch.settings.ranking import Setting, Source
from dgx_vllm.service import paths
from dgx_vllm.service.command import install_service
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags

#: Texts and JSON of vLLM 0.32.0 that name no file of this machine. What `model` and `config` name is looked
#: at elsewhere.
NO_PLACES = {
    *("additional-config", "allowed-headers", "allowed-media-domains", "allowed-methods", "allowed-origins"),
    *("api-key", "attention-config", "aux-output-config", "code-revision", "cohere-format", "config"),
    *("config-format", "cpu-offload-params", "custom-histogram-buckets", "data-parallel-address"),
    *("data-parallel-backend", "default-chat-template-kwargs", "device-ids", "diffusion-config"),
    *("disable-access-log-for-endpoints", "engram-config", "eplb-config", "fault-tolerance-config"),
    *("fingerprint-value", "hf-overrides", "hf-token", "host", "ignore-patterns", "io-processor-plugin"),
    *("ir-op-priority", "kernel-config", "kv-cache-dtype-skip-layers", "kv-events-config"),
    *("limit-mm-per-prompt", "load-format", "lora-target-modules", "mamba-backend", "master-addr"),
    *("media-io-kwargs", "mm-encoder-attn-backend", "mm-processor-kwargs", "model", "model-impl"),
    *("numa-bind-cpus", "offload-params", "otlp-traces-endpoint"),
    *("override-generation-config", "pooler-config", "pt-load-map-location", "quantization-config"),
    *("reasoning-config", "reasoning-parser", "response-role", "revision", "root-path", "served-model-name"),
    *("show-hidden-metrics-for-version", "sleep-preserve-parameter-names", "ssl-ciphers", "tokenizer-mode"),
    *("tokenizer-revision", "tool-call-parser", "tool-server", "watermark-config", "weight-transfer-config"),
}


def test_every_flag_that_may_hold_a_path_is_decided_on() -> None:
    open_ended = {
        flag.name
        for flag in flags.load().flags
        if flag.arity != "none"
        and not flag.choices
        and (flag.kind in ("text", "lora-module") or flag.kind.startswith("json"))
    }
    assert open_ended == set(path_flags.FIELDS) | NO_PLACES
    assert not set(path_flags.FIELDS) & NO_PLACES


def field(path: str, word: str) -> object:
    """A JSON value that has the word at that place."""
    value: object = word
    for name in reversed(path.split(".")):
        value = {"any" if name == "*" else name: value}
    return value


CASES = [(name, path, kind) for name, fields in path_flags.FIELDS.items() for path, kind in fields.items()]


def given(name: str, path: str, word: str) -> list[Setting]:
    """The word at a place of a flag, in each way to write it."""
    if name == "lora-modules":
        spellings = [f"a={word}", json.dumps({"name": "a", "path": word})]
        return [Setting(name, (each,), Source.FLAG, f"--{name}") for each in spellings]
    if not path:
        return [Setting(name, word, Source.FLAG, f"--{name}")]
    value = field(path, word)
    assert isinstance(value, dict)
    return [Setting(name, each, Source.FLAG, f"--{name}") for each in (json.dumps(value), value)]


@pytest.mark.parametrize(("name", "path", "kind"), CASES)
def test_a_relative_path_is_refused_and_a_whole_one_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, kind: Kind
) -> None:
    monkeypatch.chdir(tmp_path)
    for relative in ("./here.py", "../here.py", "~/here.py"):
        for setting in given(name, path, relative):
            with pytest.raises(UserError, match="give the whole path, /") as refused:
                paths.check({name: setting})
            assert f"--{name}" in str(refused.value)
            assert "*" not in str(refused.value)
    for whole in ("/srv/here.py", "s3://bucket/here"):
        for setting in given(name, path, whole):
            paths.check({name: setting})


@pytest.mark.parametrize(("name", "path", "kind"), [each for each in CASES if each[2] is Kind.REPOSITORY])
def test_a_repository_passes_unless_it_is_a_directory_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str, kind: Kind
) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in given(name, path, "org/name"):
        paths.check({name: setting})
        (tmp_path / "org/name").mkdir(parents=True)
        with pytest.raises(UserError, match=f"give the whole path, {tmp_path}/org/name"):
            paths.check({name: setting})
        (tmp_path / "org/name").rmdir()
        (tmp_path / "org").rmdir()


@pytest.mark.parametrize(("name", "path", "kind"), [each for each in CASES if each[2] is Kind.PATH])
def test_a_bare_name_of_a_file_is_relative(name: str, path: str, kind: Kind) -> None:
    for setting in given(name, path, "traces"):
        with pytest.raises(UserError, match="give the whole path"):
            paths.check({name: setting})


def test_a_relative_path_that_no_flag_is_known_for_is_refused() -> None:
    value = json.dumps({"kv_connector_extra_config": {"tiers": [{"my-store": "./kv"}]}})
    with pytest.raises(
        UserError, match=r"--kv-transfer-config.kv_connector_extra_config.tiers.my_store ./kv"
    ):
        paths.check(
            {"kv-transfer-config": Setting("kv-transfer-config", value, Source.FLAG, "--kv-transfer-config")}
        )


def test_names_that_are_no_paths_pass() -> None:
    for name, word in {
        "generation-config": "vllm",
        "tool-parser-plugin": "my_parser",
        "chat-template": "./{{ messages }}",
        "middleware": "my.Middleware",
        "distributed-executor-backend": "mp",
    }.items():
        paths.check({name: Setting(name, word, Source.FLAG, f"--{name}")})


# --- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "detect", lambda: LAPTOP)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapter").mkdir()
    for place in ("draft", "out/draft/1"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(CHECKPOINT)
    return tmp_path


CHECKPOINT = Path(dgx_vllm.__file__).resolve().parent / "demo/checkpoint"
DRAFT = '{"method": "draft_model", "model": "./draft", "num_speculative_tokens": 2}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lora-modules", '{"name": "a", "path": "adapter"}'], "--lora-modules adapter"),
        (["--lora-modules", "b=/srv/b", "a=./adapter"], "--lora-modules ./adapter"),
        (["--lora-modules", "a=loras/sft/last"], "--lora-modules loras/sft/last"),
        (["-sc", '{"model": "out/draft/1", "num_speculative_tokens": 2}'], "config.model out/draft/1"),
        (["--default-mm-loras", '{"image": "./adapter"}'], "--default-mm-loras.image ./adapter"),
        (["--speculative-config", DRAFT], "--speculative-config.model ./draft"),
        (["-sc.model=./draft", "-sc.num_speculative_tokens=2"], "--speculative-config.model ./draft"),
        (["--profiler-config.torch_profiler_dir", "traces"], "--profiler-config.torch_profiler_dir traces"),
        (["--uds", "vllm.sock"], "--uds vllm.sock"),
    ],
)
def test_a_relative_path_on_the_command_line_is_refused(here: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        install_service(["org/m", *words], os.environ, WISH)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("words", "offline"),
    [
        (["--lora-modules", '{"name": "a", "path": "/srv/adapter"}'], True),
        (["--lora-modules", '{"name": "a", "path": "org/lora"}'], False),
        (["--lora-modules", "b=/srv/b", '{"name": "a", "path": "org/lora"}'], False),
        (["--default-mm-loras", '{"image": "/srv/adapter"}'], True),
        (["--default-mm-loras", '{"image": "org/lora"}'], False),
        (["--speculative-config", DRAFT.replace("./draft", str(CHECKPOINT))], True),
        (["--speculative-config", DRAFT.replace("./draft", "org/draft")], True),
        (["--generation-config", "vllm"], True),
        (["--generation-config", "org/other"], False),
    ],
)
def test_what_lies_here_or_is_downloaded_keeps_the_server_off_the_hub(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], offline: bool
) -> None:
    install_service(["org/m", *words], os.environ, WISH)
    assert ("HF_HUB_OFFLINE" in capsys.readouterr().out) == offline


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lora-modules: [\'{"name": "a", "path": "adapter"}\']\n', "lora-modules adapter"),
        ("speculative-config: {model: ./draft, num_speculative_tokens: 2, method: draft_model}\n", "./draft"),
        ("structured-outputs-config: {reasoning_parser_plugin: ./p.py}\n", "reasoning_parser_plugin ./p.py"),
    ],
)
def test_a_relative_path_in_the_settings_file_is_refused(here: Path, text: str, said: str) -> None:
    config = here / "vllm.yaml"
    config.write_text(text)
    with pytest.raises(UserError) as refused:
        install_service(["org/m"], os.environ, replace(WISH, config=config))
    assert said in str(refused.value)
    assert str(config) in str(refused.value)


def test_a_relative_path_in_the_environment_file_is_refused(here: Path) -> None:
    (here / "env").write_text("VLLM_EXTRA_ARGS='--tokenizer ./adapter'\n")
    with pytest.raises(UserError, match=r"VLLM_EXTRA_ARGS, tokenizer ./adapter: the service runs in another"):
        install_service(["org/m"], os.environ, replace(WISH, environment_file=here / "env"))


# --- homes and permissions ------------------------------------------------------------------------------


def test_a_path_in_a_home_that_only_a_file_names_is_refused(here: Path) -> None:
    config = here / "vllm.yaml"
    config.write_text("tokenizer: /home/alice/tokenizer\n")
    wish = replace(WISH, config=config)
    with pytest.raises(
        UserError, match="sees only the parts of a home that its command line names; give --tokenizer"
    ):
        install_service(["org/m"], os.environ, wish)
    install_service(["org/m", "--tokenizer", "/home/alice/tokenizer"], os.environ, wish)
    install_service(["org/m"], os.environ, replace(wish, user=True))


def test_a_file_within_a_directory_that_is_shown_passes(here: Path) -> None:
    config = here / "vllm.yaml"
    config.write_text("middleware: [json.Mark]\nchat-template: /home/alice/own/t.jinja\n")
    words = ["org/m", "--allowed-local-media-path", "/home/alice/own"]
    install_service(words, os.environ, replace(WISH, config=config))


def test_what_the_services_user_may_not_read_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_PRIVATE", ("/nowhere/",))  # the tests' own files are in /tmp
    allows = paths._allows
    # The root of a build lets nobody else in, and does not belong to the tests.
    monkeypatch.setattr(paths, "_allows", lambda path, *words: path == Path("/") or allows(path, *words))
    for directory in (here, *here.parents):
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (here / name).touch()
        (here / name).chmod(mode)
    words = ["org/m", "--ssl-certfile", f"{here}/open", "--ssl-keyfile", f"{here}/closed"]
    install_service(words, os.environ, WISH)
    said = capsys.readouterr().err
    assert f"{here}/closed: the service runs as a user of its own, who may not read it" in said
    assert f"{here}/open" not in said
    install_service(words, os.environ, replace(WISH, run_as="root"))
    assert "may not read" not in capsys.readouterr().err
    here.chmod(0o700)
    install_service(words, os.environ, WISH)
    assert f"{here}/open: the service runs as" in capsys.readouterr().err


def test_what_lies_in_a_tmp_that_the_service_does_not_see_is_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        install_service(["org/m", "--ssl-certfile", file.name], os.environ, WISH)
        assert f"{file.name}: the service has a /tmp of its own" in capsys.readouterr().err
        install_service(["org/m", "--ssl-certfile", file.name], os.environ, replace(WISH, user=True))
        assert "/tmp of its own" not in capsys.readouterr().err


def test_a_path_next_to_a_bare_size_is_seen(here: Path) -> None:
    """vLLM takes 80m for a number in some of its configs."""
    value = '{"kv_connector": "x", "kv_buffer_size": 80m, "kv_connector_extra_config": {"disk_path": "kv"}}'
    with pytest.raises(UserError, match="disk_path kv: the service runs in another directory"):
        paths.check({"kv-transfer-config": Setting("kv-transfer-config", value, Source.FLAG, "--x")})
