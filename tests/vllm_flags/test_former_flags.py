"""Former flags: what is said of one is something that vLLM has."""

import re

from dgx_vllm.vllm_flags import flags, former

TABLE = flags.load()


def test_vllm_has_none_of_them() -> None:
    names = sorted(former._ADVICE)
    assert [name for name in names if TABLE.get(name)] == []


def test_what_is_named_instead_is_there() -> None:
    advice = " ".join(former._ADVICE.values())
    named = set(re.findall(r"--([a-z-]+)(?:\.(\w+))?", advice))
    assert named
    for name, field in named:
        flag = TABLE.get(name)
        assert flag, name
        assert not field or field in flag.fields, (name, field)
    assert "draft_tensor_parallel_size" in TABLE.require("speculative-config", "").fields
    for level in re.findall(r"-O(\d)", advice):
        assert level in TABLE.require("optimization-level", "").choices
