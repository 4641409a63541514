"""Variants: names, options, and what is refused."""

import re

import pytest

from dgx_vllm.bench_decode import variant
from dgx_vllm.bench_decode.variant import Variant
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags


@pytest.mark.parametrize("name", variant.known())
def test_known_ones_are_flags_of_vllm(name: str) -> None:
    found = variant.parse(name)
    rest, values = flags.load().parse(found.words)
    assert (found.name, rest) == (name, [])
    assert values or found.dense_dtype


def test_options_of_ones_own() -> None:
    found = variant.parse('mtp=--speculative-config \'{"method": "mtp"}\' --dense-dtype fp8 --seed=3')
    assert found == Variant("mtp", ("--speculative-config", '{"method": "mtp"}', "--seed=3"), "fp8")
    assert variant.parse(f"again={found.options}") == Variant("again", found.words, "fp8")


def test_default_variants_depend_on_the_platform() -> None:
    assert [each.name for each in variant.chosen((), "cuda")] == ["marlin", "stock", "dgx", "dgx-fp8"]
    assert [each.name for each in variant.chosen((), "cpu")] == ["stock"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["nothing"], "there is no variant 'nothing'; choose from marlin"),
        (["=--seed 1"], "give NAME or NAME=OPTIONS"),
        (["a b=--seed 1"], "give NAME or NAME=OPTIONS"),
        (["../a=--seed 1"], "give NAME or NAME=OPTIONS"),
        (["a=--seed '1"], "these are not valid shell words"),
        (["a=--dense-dtype fp5"], "invalid choice: 'fp5'"),
        (["dgx", "dgx=--seed 1"], "--variant dgx is given twice"),
    ],
)
def test_variants_that_do_not_exist_are_refused(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        variant.chosen(texts, "cuda")
