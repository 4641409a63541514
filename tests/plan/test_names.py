"""The names of fields, against all of vLLM's models and config classes."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import vllm.config  # before its parts, which import one another
from transformers import CONFIG_MAPPING
from vllm.transformers_utils import model_arch_config_convertor as convertor
from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase
from vllm_modules import SERVED, TYPES

from dgx_vllm.checkpoints.fields import text_part
from dgx_vllm.plan import generic

_SOURCES = [
    path
    for folder in ("model_executor/models", "models")
    for path in sorted((Path(vllm.__file__).parent / folder).rglob("*.py"))
]
#: The classes of architectures that vLLM serves, by model_type.
_CLASSES = {
    name: CONFIG_MAPPING[name]
    for name in sorted({each for served in SERVED for each in TYPES.get(served, [])})
    if name in CONFIG_MAPPING
}


@pytest.mark.parametrize(
    ("getter", "names"),
    [
        ("get_total_num_kv_heads", generic.KV_HEADS),
        ("get_num_experts", generic.EXPERTS),
        ("get_num_experts_per_token", generic.PER_TOKEN),
    ],
)
def test_every_name_that_vllm_looks_for_is_looked_for(
    getter: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def look(config: object, each: list[str], *_: object, **__: object) -> int:
        asked.extend(each)
        return 1

    monkeypatch.setattr(convertor, "getattr_iter", look)
    config: Any = SimpleNamespace(model_type="llama")
    getattr(ModelArchConfigConvertorBase(config, config), getter)()
    assert asked
    assert names[: len(asked)] == tuple(asked)  # in vLLM's order: the first that is there counts


def given(path: Path, keyword: str) -> Iterator[str]:
    """The fields of a config that a model hands to its layers by a keyword."""
    for node in ast.walk(ast.parse(path.read_text())):
        for each in node.keywords if isinstance(node, ast.Call) else []:
            value = each.value.value if isinstance(each.value, ast.Subscript) else each.value
            if each.arg == keyword and isinstance(value, ast.Attribute):
                yield from [value.attr] if ast.unparse(value.value).endswith("config") else []


@pytest.mark.parametrize(
    ("keyword", "names"), [("top_k", generic.PER_TOKEN), ("num_experts", generic.EXPERTS)]
)
def test_every_name_that_a_model_reads_is_looked_for(keyword: str, names: tuple[str, ...]) -> None:
    found = {name for path in _SOURCES for name in given(path, keyword)}
    assert {"num_experts_per_tok", "moe_topk"} <= found or {"num_experts", "n_routed_experts"} <= found
    # K2 Horizon has experts in its attention, too.
    assert found - {"mova_num_experts"} <= set(names)


def test_names_that_a_class_maps_to_another_are_looked_for() -> None:
    lists = {
        "num_hidden_layers": generic.LAYERS,
        "hidden_size": generic.HIDDEN,
        "num_attention_heads": generic.HEADS,
        "num_key_value_heads": generic.KV_HEADS,
        "num_experts": generic.EXPERTS,
        "num_local_experts": generic.EXPERTS,
        "num_experts_per_tok": generic.PER_TOKEN,
        "head_dim": (*generic.HEAD_SIZE, "qk_rope_head_dim"),
    }
    missing = {
        (name, mapped)
        for name, config in _CLASSES.items()
        for usual, mapped in config.attribute_map.items()
        # Of an encoder with a decoder no cache is counted.
        if usual in lists and mapped not in lists[usual] and not mapped.startswith(("encoder_", "decoder_"))
    }
    assert missing == set()


@pytest.mark.parametrize("model_type", sorted({*CONFIG_MAPPING.keys(), *generic.LATENT}))
def test_latent_attention_is_vllms(model_type: str) -> None:
    config: Any = SimpleNamespace(model_type=model_type, kv_lora_rank=512)
    if model_type == "eagle":
        return
    assert ModelArchConfigConvertorBase(config, config).is_deepseek_mla() == (model_type in generic.LATENT)


@pytest.mark.parametrize("model_type", _CLASSES)
def test_the_language_model_is_found_where_its_class_has_it(model_type: str) -> None:
    try:
        config = _CLASSES[model_type]()
        text = config.get_text_config()
    except Exception as error:
        pytest.skip(f"the class makes nothing of its own defaults: {error}")
    fields = text_part("model", json.loads(json.dumps(config.to_dict(), default=str)))
    if config.is_encoder_decoder or text is config:
        return
    assert generic.layer_count(fields) == getattr(text, "num_hidden_layers", None)
    for names in (generic.HIDDEN, generic.HEADS, generic.VOCABULARY):
        theirs = next((getattr(text, name) for name in names if getattr(text, name, None)), None)
        assert fields.found(*names) == theirs
