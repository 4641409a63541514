"""Fields of JSON flags: what vLLM's own classes do not take is refused, in every way to give it."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Flag
from dgx_vllm.vllm_flags.generate import dataclass_of
from helpers.launching import Run

TABLE = flags.load()
WITH_FIELDS = [flag for flag in TABLE.flags if flag.fields and flag.name != "lora-modules"]


def unexpected(parser: argparse.ArgumentParser, flag: Flag, given: dict[str, Any]) -> set[str]:
    """The fields that vLLM's own class calls unexpected."""
    from pydantic import TypeAdapter, ValidationError

    kind = dataclass_of(flag.names[0], parser._option_string_actions[flag.names[0]].type)
    try:
        TypeAdapter(kind).validate_json(json.dumps(given))
    except ValidationError as error:
        faults = [each for each in error.errors() if each["type"] == "unexpected_keyword_argument"]
        return {str(each["loc"][-1]) for each in faults}
    except Exception:  # of a field that it takes, whose value it does not
        return set()
    return set()


def variants(flag: Flag) -> Iterator[tuple[dict[str, Any], str]]:
    """Each field and each one misspelt, as an object and by the field's own name."""
    for path in flag.fields:
        *above, name = path.split(".")
        for spelt in (name, f"{name}x", name[1:], name.replace("_", "-"), "no_such_field"):
            given: Any = None
            for key in [spelt, *reversed(above)]:
                given = {key: given}
            yield given, spelt


@pytest.mark.parametrize("flag", WITH_FIELDS, ids=lambda flag: flag.name)
def test_a_field_is_refused_where_vllms_class_refuses_it(
    flag: Flag, vllm_parser: argparse.ArgumentParser
) -> None:
    for given, name in variants(flag):
        if flag.name == "speculative-config":  # vLLM replaces dashes there before it makes the object
            given = {key.replace("-", "_"): value for key, value in given.items()}
            name = name.replace("-", "_")
        refused = ""
        try:
            TABLE.parse([flag.names[0], json.dumps(given)])
        except UserError as error:
            refused = str(error)
        assert ("has no field" in refused) is (name in unexpected(vllm_parser, flag, given)), (given, refused)


def refuses(of: Any, field: str, value: str | int) -> bool:
    """Whether vLLM's own class refuses a value of a field for what it is."""
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(of).validate_json(json.dumps({field: value}))
    except ValidationError as error:
        return any(each["loc"][:1] == (field,) for each in error.errors())
    except KeyError as error:
        return str(value).upper() in error.args
    except (AttributeError, ImportError):  # a method whose package or target is not here
        return False
    return False


@pytest.mark.parametrize("flag", [flag for flag in WITH_FIELDS if flag.values], ids=lambda flag: flag.name)
def test_a_value_is_refused_where_vllms_class_refuses_it(
    flag: Flag, vllm_parser: argparse.ArgumentParser
) -> None:
    of = dataclass_of(flag.names[0], vllm_parser._option_string_actions[flag.names[0]].type)
    for closed in flag.values:
        if "." in closed.field:
            continue  # of a class within
        assert closed.words or closed.numbers, closed
        for word in [*closed.words, "no_such_word"]:
            for value in (
                word,
                word.upper(),
                word.title(),
                f"{word}x",
                word.replace("_", "-"),
            ):
                refused = refuses(of, closed.field, value)
                assert refused is not closed.takes(value), (closed.field, value)
        for number in range(6):
            assert refuses(of, closed.field, number) is not closed.takes(number), (
                closed.field,
                number,
            )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compilation-config", '{"level": 3}'], "no field level; give mode instead"),
        (["-cc.level=3"], "no field level; give mode instead"),
        (["--compilation-config.cudagraph_mod", "NONE"], "did you mean cudagraph_mode"),
        (["-cc.pass_config.enable_fusion", "true"], "give fuse_norm_quant and fuse_act_quant instead"),
        (["-cc.pass_config.fuse_norm_quan=true"], "did you mean pass_config.fuse_norm_quant"),
        (["-cc.fuse_norm_quant", "true"], "did you mean pass_config.fuse_norm_quant"),
        (["-cc.pass-config", "{}"], "did you mean pass_config?"),
        (["--attention-config", '{"use_cudnn_prefill": true}'], "has no field use_cudnn_prefill"),
        (["-sc", '{"method": "mtp", "num_tokens": 2}'], "has no field num_tokens"),
        (["--kv-transfer-config", '{"kv_rank": 0}'], "has no field kv_rank"),
        (["-cc.cudagraph_mode", "PIECEWISE_ONLY"], "did you mean piecewise"),
        (["-cc.mode=7"], "mode cannot be 7; choose from"),
        (["--attention-config.backend", "XFORMERS"], 'backend cannot be "XFORMERS"'),
        (
            ["--kv-transfer-config", '{"kv_connector": "x", "kv_role": "both"}'],
            "did you mean kv_both?",
        ),
        (["-sc", '{"method": "MTP", "num-speculative-tokens": 2}'], "did you mean mtp"),
        (["--watermark-config", '{"keys": 1}'], "did you mean key?"),
        (["--lora-modules", '{"name": "a", "path": "b", "base": "c"}'], "has no field base"),
    ],
)
def test_every_way_to_give_a_field_is_looked_at(
    dgx_vllm: Run, spark: Machine, tmp_path: Path, words: list[str], said: str
) -> None:
    for command in ("serve", "install-service"):
        outcome = dgx_vllm(command, "org/model", "--dry-run", *words, on=spark)
        assert outcome.status == 2, outcome
        assert said in outcome.err
    outcome = dgx_vllm(
        "serve", "org/model", "--dry-run", on=spark, environ={"VLLM_EXTRA_ARGS": " ".join(map(quoted, words))}
    )
    assert said in outcome.err


def quoted(word: str) -> str:
    return f"'{word}'"


@pytest.mark.parametrize("text", ["compilation-config: {level: 3}\n", "compilation-config.level: 3\n"])
def test_a_field_in_a_file(dgx_vllm: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for words in (["serve", "org/model", "--dry-run", "--config"], ["check-config"]):
        assert "give mode instead" in dgx_vllm(*words, str(path)).err


def test_a_field_in_a_profile(dgx_vllm: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'model = "org/model"\nsummary = "mine"\nmemory-gib = 1\n[serve]\ncompilation-config = { level = 3 }\n'
    )
    assert "give mode instead" in dgx_vllm("serve", "--dry-run", "--profile", str(path)).err


@pytest.mark.parametrize(
    "words",
    [
        ["--hf-overrides", '{"any": {"thing": 1}}'],
        ["--additional-config", '{"any": 1}'],
        ["--model-loader-extra-config", '{"any": 1}'],
        ["--override-generation-config", '{"any": 1}'],
        ["--kv-transfer-config", '{"kv_connector": "x", "kv_connector_extra_config": {"any": 1}}'],
        ["--compilation-config", '{"inductor_compile_config": {"any": 1}}'],
        ["--quantization-config", '{"targets": {"any": "fp8"}}'],
        ["--speculative-config", '{"method": "ngram", "num-speculative-tokens": 2}'],
        ["--kv-events-config", '{"buffer_steps": 80k}'],
        ["--speculative-config", '{"method": "suffix"}'],
        ["--attention-config", '{"backend": "auto"}'],
        ["--kernel-config", '{"moe_backend": "FlashInfer-CUTLASS"}'],
        ["-cc.mode=3", "-cc.cudagraph_mode", "Full_And_Piecewise"],
    ],
)
def test_what_is_free_stays_free(dgx_vllm: Run, spark: Machine, words: list[str]) -> None:
    outcome = dgx_vllm("serve", "org/model", "--dry-run", *words, on=spark)
    assert outcome.status == 0, outcome
