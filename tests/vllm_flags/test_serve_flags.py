"""vLLM's flags: read, checked and written back as vLLM itself would."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Flag, Value

TABLE = flags.load()

# Words that a shell or argparse could trip over are in; leading dashes are, where a flag has one value.
_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)
_WORD = _TEXT.filter(lambda word: not word.startswith("-"))
_OBJECT = st.dictionaries(_WORD, st.integers(), max_size=2).map(json.dumps)
_BY_KIND: dict[str, st.SearchStrategy[str]] = {
    "int": st.integers(0, 10**9).map(str),
    "float": st.floats(0, 1e6).map(str),
    "size": st.integers(0, 10**9).map(str) | st.sampled_from(["1k", "2.5g", "8G", "1K"]),
    "size-or-auto": st.integers(0, 10**9).map(str) | st.sampled_from(["auto", "-1", "4k"]),
    "json": _OBJECT | st.lists(st.integers(), max_size=2).map(json.dumps),
    "json-object": _OBJECT,
    "json-or-text": _OBJECT | _WORD.filter(lambda word: not word.startswith("{")),
    "lora-module": st.just("a=b") | st.just('{"name": "a", "path": "b"}'),
    "text": _TEXT.filter(lambda word: word != "--"),  # argparse drops `--flag=--`, in vLLM as here
}


def values(flag: Flag) -> st.SearchStrategy[Value]:
    if flag.arity == "none":
        return st.booleans() if flag.negation else st.just(True)
    word = st.sampled_from(flag.choices) if flag.choices else _BY_KIND[flag.kind]
    if flag.fields and flag.arity == "one":
        level = [name for name in flag.fields if "." not in name]
        closed = {each.field: st.sampled_from([*each.words, *each.numbers]) for each in flag.values}
        fields = st.lists(st.sampled_from(level), max_size=2, unique=True)
        word = fields.flatmap(
            lambda names: st.fixed_dictionaries({name: closed.get(name, st.integers()) for name in names})
        ).map(json.dumps)
    if flag.arity == "optional":
        return word | st.just(True)
    one = st.tuples(word)
    if flag.arity == "repeat":
        return one | st.lists(word, min_size=1, max_size=3).map(tuple)
    if flag.arity == "many":
        listed = word.filter(lambda text: not text.startswith("-"))
        return one | st.lists(listed, min_size=1, max_size=3).map(tuple)
    return word


@pytest.mark.parametrize("flag", TABLE.flags, ids=lambda flag: flag.name)
@settings(max_examples=30)
@given(data=st.data())
def test_every_flag_survives_writing_and_reading(flag: Flag, data: st.DataObject) -> None:
    value = data.draw(values(flag))
    rest, found = TABLE.parse(flag.words(value))
    assert rest == []
    assert found == {flag.name: value}


def test_the_model_may_stand_anywhere() -> None:
    for words in (["m", "-tp", "2", "--enforce-eager"], ["-tp", "2", "m", "--enforce-eager"]):
        rest, found = TABLE.parse(words)
        assert rest == ["m"]
        assert found == {"tensor-parallel-size": "2", "enforce-eager": True}
    assert TABLE.parse(["--enforce-eager", "m"])[0] == ["m"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--max_model_len", "4k"], {"max-model-len": "4k"}),
        (["--max_model-len", "4k"], {"max-model-len": "4k"}),
        (["--max-model-len", "1_000"], {"max-model-len": "1_000"}),
        (["--tokenizer-revision", "None"], {"tokenizer-revision": "None"}),
        (["--tensor", "2"], {"tensor-parallel-size": "2"}),
        (["--max-model-len=4096"], {"max-model-len": "4096"}),
        (["--no-enable-prefix-caching"], {"enable-prefix-caching": False}),
        (["--device-memory-utilization", "0.5"], {"gpu-memory-utilization": "0.5"}),
        (["--served-model-name", "a", "b"], {"served-model-name": ("a", "b")}),
        (["--middleware", "a", "--middleware", "b"], {"middleware": ("a", "b")}),
        (["--middleware=-a", "--middleware", "b"], {"middleware": ("-a", "b")}),
        (["--api-key=-abc"], {"api-key": ("-abc",)}),
        (["--hf-token", "--port", "81"], {"hf-token": True, "port": "81"}),
        (["--hf-token", ""], {"hf-token": ""}),
        (["-O3"], {"optimization-level": "3"}),
        (["-O=0", "--port", "81"], {"optimization-level": "0", "port": "81"}),
        (["--port", "81", "-O", "1"], {"optimization-level": "1", "port": "81"}),
        (["--moe-backend", "FlashInfer-CUTLASS"], {"moe-backend": "FlashInfer-CUTLASS"}),
        (
            ["-sc.method", "mtp", "--speculative-config.num_speculative_tokens=2"],
            {"speculative-config": {"method": "mtp", "num_speculative_tokens": 2}},
        ),
        (
            ["-cc.pass_config.fuse_norm_quant", "true"],
            {"compilation-config": {"pass_config": {"fuse_norm_quant": True}}},
        ),
        (
            ["-cc.cudagraph_capture_sizes+", "1", "-cc.cudagraph_capture_sizes+=2"],
            {"compilation-config": {"cudagraph_capture_sizes": ["1", "2"]}},
        ),
        (
            ["-cc.cudagraph_capture_sizes+", "1,2"],
            {"compilation-config": {"cudagraph_capture_sizes": ["1", "2"]}},
        ),
    ],
)
def test_every_spelling_of_a_flag_is_read_alike(words: list[str], found: dict[str, Value]) -> None:
    assert TABLE.parse(words) == ([], found)
    whole = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in found.items()}
    written = [word for name, value in whole.items() for word in TABLE.require(name, "").words(value)]
    assert TABLE.parse(written) == ([], whole)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-modle-len", "1"], "did you mean --max-model-len"),
        (["--tp", "2"], "no flag --tp; did you mean --tensor-parallel-size?"),
        (["--help"], "--help is not a setting"),
        (["--nonesuch"], "vllm serve --help=all"),
        (["--specultive-config.method", "mtp"], "did you mean --speculative-config"),
        (["--port"], "--port"),
        (["--port", "http"], "--port must be a whole number, not 'http'"),
        (["--max-model-len", "long"], "or auto, not 'long'"),
        (["--gpu-memory-utilization", "half"], "must be a number"),
        (["--moe-backend", "marlim"], "did you mean marlin"),
        (["--speculative-config", "{not json"], "must be valid JSON"),
        (["--enforce-eager=yes"], "--enforce-eager"),
        (["-O"], "-O"),
        (["-O4"], "--optimization-level: '4' is not one of its values"),
        (["-O", "4"], "-O"),
        (["--port.number", "1"], "has no fields"),
    ],
)
def test_what_vllm_would_refuse_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        TABLE.parse(words)
    assert said in str(refused.value)


@pytest.mark.engine
def test_the_table_is_the_installed_vllms(environment: dict[str, str]) -> None:
    """Writes flags.json anew; a change of vLLM's version shows here."""
    done = subprocess.run(
        [sys.executable, "-m", "dgx_vllm.vllm_flags.generate"],
        env={**environment, "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    made = done.stdout[done.stdout.index("{") :]
    assert json.loads(made) == json.loads((flags.Path(flags.__file__).parent / "flags.json").read_text())
