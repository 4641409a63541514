"""Every flag of vLLM in every spelling, in words and in a file of --config, against vLLM's own parser.

What vLLM reads is held against what it reads from the words that the launcher makes of the same input. What
vLLM refuses or ignores must be refused here.
"""

import argparse
import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.launch.settings import config_file
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Flag, Values

TABLE = flags.load()
#: --config names the file itself.
FLAGS = [flag for flag in TABLE.flags if flag.name != "config"]
Read = Callable[[Sequence[str]], dict[str, Any] | None]

#: A word of each kind that differs from what vLLM takes without one.
_WORDS = {
    "text": ["word"],
    "int": ["3", "-7"],
    "float": ["0.625", "3"],
    "size": ["4k", "1.5k", "17"],
    "size-or-auto": ["4K", "auto", "-1"],
    "json": ['{"a": 1}', "[1]"],
    "json-object": ["{}"],
    "json-or-text": ['{"a": 1}', "word"],
    "lora-module": ["a=b", '{"name": "a", "path": "b"}'],
}
#: A word of each kind that vLLM's parser refuses.
_BAD = {
    "int": ["x"],
    "float": ["x"],
    "size": ["1.5K"],
    "size-or-auto": ["x"],
    "json": ["{"],
    "json-object": ["{"],
    "lora-module": ["{}"],
}


@pytest.fixture
def read(vllm_parser: argparse.ArgumentParser) -> Read:
    """What vLLM makes of words, None where it refuses them or takes a value for the model."""

    def call(words: Sequence[str]) -> dict[str, Any] | None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            try:
                found = vars(vllm_parser.parse_args(list(words)))
            except (SystemExit, Exception):
                return None
        return None if found["model_tag"] is not None else found

    return call


def written(values: Values) -> list[str]:
    return [word for name, value in values.items() for word in TABLE.require(name, "").words(value)]


def same(left: dict[str, Any] | None, right: dict[str, Any] | None) -> bool:
    if left is None or right is None:
        return left is right
    return {key: shown(value) for key, value in left.items()} == {
        key: shown(value) for key, value in right.items()
    }


def shown(value: Any) -> str:
    """A value without the identifiers that vLLM draws anew for each config."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "(drawn)", repr(value))


def names(flag: Flag) -> list[str]:
    """Each name with dashes, underscores and both, and its shortest unmistakable beginning."""
    found: list[str] = []
    for name in flag.names:
        found.append(name)
        if name.startswith("--") and "-" in name[2:]:
            head, *tail = name[2:].split("-")
            found += [f"--{'_'.join([head, *tail])}", f"--{head}_{'-'.join(tail)}"]
        short = next(
            (name[:end] for end in range(3, len(name)) if TABLE.resolve(name[:end]) == (flag, name)), None
        )
        found += [short] if short and name.startswith("--") else []
    return list(dict.fromkeys(found))


def good(flag: Flag) -> list[str]:
    found = [flag.choices[-1], flag.choices[0]] if flag.choices else _WORDS[flag.kind]
    if flag.fields and flag.kind == "json":  # its fields are no longer vLLM's parser's to know
        found = ["{}", "[1]"]
    return [*found, *(["None", ""] if flag.nullable else [])]


def spellings(flag: Flag) -> Iterator[list[str]]:
    """Words that give the flag, right and wrong."""
    for name in names(flag):
        yield [name]
        yield [f"{name}=false"]
        yield [name, "true"]
        if flag.arity != "none":
            for word in [*good(flag), *_BAD.get(flag.kind, [])]:
                yield [name, word]
                yield [f"{name}={word}"]
            yield [name, good(flag)[0], name, good(flag)[-1]]
        if flag.arity in ("many", "repeat"):
            yield [name, good(flag)[0], good(flag)[0]]
        if flag.kind.startswith("json") and not flag.fields:
            yield [f"{name}.field", "1"]
            yield [f"{name}.field.inner=1k", f"{name}.field.other", "true"]
            yield [f"{name}.field+", "a,b", f"{name}.field+=c"]
    if flag.negation:
        yield [flag.names[0], flag.negation]
        yield [flag.negation, flag.names[0]]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_words_mean_what_vllm_takes_them_for(flag: Flag, read: Read) -> None:
    for words in spellings(flag):
        theirs = read(words)
        try:
            rest, values = TABLE.parse(words)
        except UserError:
            rest, values = [], {}
            assert theirs is None or closed(flag, theirs), words
            continue
        if rest:
            assert theirs is None, words
        else:
            assert same(read(written(values)), theirs), words


def closed(flag: Flag, theirs: dict[str, Any]) -> bool:
    """Whether the flag takes one of a few values though vLLM's parser takes any text."""
    value = theirs[flag.name.replace("-", "_")]
    return bool(flag.choices) and isinstance(value, str) and value not in flag.choices


def lines(flag: Flag) -> Iterator[dict[Any, Any]]:
    """Files of one or two lines that give the flag, right and wrong."""
    for name in names(flag):
        key = name.removeprefix("--") if name.startswith("--") else name.removeprefix("-")
        for field in (True, False, None, [], {}, "true", "false", 1, 0.5):
            yield {key: field}
        if flag.arity != "none":
            for word in good(flag):
                yield {key: word}
                yield {key: [word]}
                yield {key: [word, word]}
                with contextlib.suppress(ValueError):
                    yield {key: json.loads(word)}
    first, *others = dict.fromkeys(name.lstrip("-") for name in names(flag))
    for other in others:
        values = [(True, True), (True, False)] if flag.arity == "none" else [(good(flag)[0],) * 2]
        for one, two in values:
            yield {first: one, other: two}
            yield {other: two, first: one}


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_file_means_what_vllm_makes_of_it(
    flag: Flag, read: Read, vllm_parser: argparse.ArgumentParser, tmp_path: Path
) -> None:
    import yaml

    path = tmp_path / "c.yaml"
    for fields in lines(flag):
        path.write_text(yaml.safe_dump(fields, sort_keys=False))
        theirs = read(["--config", str(path)])
        words = vllm_parser.load_config_file(str(path))  # type: ignore[attr-defined]
        try:
            values, refusal = config_file.read(str(path)), ""
        except UserError as refused:
            values, refusal = {}, str(refused)
        if refusal:
            twice = len(fields) > 1 and "keep one" in refusal
            text = None in fields.values() and "empty value" in refusal
            nested = {} in fields.values() and "at the top of the file" in refusal
            ignored = len(words) < len(fields)
            assert theirs is None or ignored or nested or twice or text or closed(flag, theirs), (
                fields,
                refusal,
            )
            continue
        assert theirs is not None, fields
        # Each line came to something, and to the same as the launcher's words for it.
        assert len(words) >= len(fields), fields
        assert same(read(written(values)), theirs), fields


def test_the_command_ignores_every_false_that_its_module_takes(
    vllm_parser: argparse.ArgumentParser, tmp_path: Path
) -> None:
    """So that the launcher repeats it; once vLLM reads both alike, that is of no use."""
    from vllm.entrypoints.cli import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    command = FlexibleArgumentParser()
    for each in serve.cmd_init():
        each.subparser_init(command.add_subparsers(dest="subparser"))
    path = tmp_path / "c.yaml"
    path.write_text("enable-prefix-caching: false\n")
    words = ["--config", str(path)]
    assert vllm_parser.parse_args(words).enable_prefix_caching is False
    assert command.parse_args(["serve", "m", *words]).enable_prefix_caching is None
    assert (
        command.parse_args(["serve", "m", *words, "--no-enable-prefix-caching"]).enable_prefix_caching
        is False
    )
