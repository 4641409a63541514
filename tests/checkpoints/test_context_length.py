"""The longest context: generated configs, asked of vLLM's own rule, and what serve and plan make of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.checkpoints import context_length
from helpers.launching import Run, write_safetensors

_COUNTS = st.sampled_from([512, 1024, 4096, 8192, 32768, 131072])
_KINDS = (
    *("default", "linear", "dynamic", "yarn", "llama3", "longrope", "deepseek_yarn", "su", "ntk", None),
    "deepseek_llama_scaling",
)


_LAYERS = ("full_attention", "sliding_attention")


def ropes(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"factor": st.sampled_from([1.0, 2.0, 4.0, 8])},
        optional={name: st.sampled_from([kind for kind in _KINDS if kind])},
    )


_ROPE = st.one_of(
    st.fixed_dictionaries({"rope_scaling": ropes("rope_type") | ropes("type") | st.none()}),
    st.fixed_dictionaries({"rope_parameters": ropes("rope_type") | st.none()}),
    st.fixed_dictionaries(
        {
            "rope_parameters": st.dictionaries(
                st.sampled_from(["full_attention", "sliding_attention"]), ropes("rope_type")
            )
        }
    ),
    st.just({}),
)
_CONFIG = st.tuples(
    st.dictionaries(st.sampled_from(context_length.KEYS), _COUNTS, max_size=3),
    _ROPE,
    st.sampled_from([{}, {"model_type": "gemma3_text"}, {"model_type": "llama"}]),
    st.sampled_from([{}, {"sliding_window": 256}, {"sliding_window": 0}, {"sliding_window": 65536}]),
).map(lambda parts: {key: value for part in parts for key, value in part.items()})


def theirs(
    config: dict[str, Any], asked: int | None, windowed: bool, tokenizer: Any, encoder: Any
) -> int | None:
    """The length by vLLM's own rule, None where it refuses what was asked."""
    from transformers import PreTrainedConfig
    from vllm.config.model import _get_and_verify_max_len
    from vllm.transformers_utils.config import patch_legacy_rope_type
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    made = PreTrainedConfig()
    for name, value in json.loads(json.dumps(config)).items():
        setattr(made, name, value)
    # As transformers standardizes them for the classes of models that have RoPE.
    rope = json.loads(json.dumps(config.get("rope_scaling") or config.get("rope_parameters") or {}))
    nested = bool(rope) and all(isinstance(value, dict) for value in rope.values())
    for each in rope.values() if nested else [rope] if rope else []:
        each.setdefault("rope_type", each.get("type", "default"))
    made.rope_parameters = rope
    patch_legacy_rope_type(rope)
    model_type = config.get("model_type", "")
    made.model_type = model_type
    window = config.get("sliding_window")
    if window == 0:  # vLLM's ModelConfig switches it off before it asks
        window = None

    convertor = ModelArchConfigConvertorBase(made, made)

    class Derived:
        derived_max_model_len_and_key = convertor.derive_max_model_len_and_key()

    try:
        return _get_and_verify_max_len(
            made,
            Derived,
            tokenizer,
            asked,
            not windowed,
            window,
            spec_target_max_model_len=None,
            encoder_config=encoder,
        )  # type: ignore[arg-type]
    except ValueError:
        return None


@settings(max_examples=500, deadline=None)
@given(
    _CONFIG,
    st.none() | _COUNTS.flatmap(lambda count: st.sampled_from([count - 1, count, count + 1, 4 * count])),
    st.booleans(),
    st.sampled_from([None, {}, {"model_max_length": 512}, {"model_max_length": 10**30}]),
    st.sampled_from([None, {"max_seq_length": 256}, {"max_seq_length": 10**6}]),
)
def test_the_rule_is_vllms(
    config: dict[str, Any], asked: int | None, windowed: bool, tokenizer: Any, encoder: Any
) -> None:
    found = context_length.longest(config, windowed, tokenizer, encoder)
    length = theirs(config, asked, windowed, tokenizer, encoder)
    if asked is not None:
        assert (length is None) is (found is not None and asked > found.allowed)
    elif found is not None and "longrope" not in json.dumps(config) and '"su"' not in json.dumps(config):
        assert length == found.tokens


@pytest.mark.parametrize(
    ("more", "longest"),
    [
        ({"model_max_length": 8192}, 8192),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 4096),
        ({"n_positions": 2048}, 2048),
        ({}, 4096),
    ],
)
def test_serve_and_plan_go_by_it(dgx_vllm: Run, tmp_path: Path, more: dict[str, Any], longest: int) -> None:
    """Public report: vllm#3676, of a Command-R whose model_max_length is above its positions."""
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 256,
        "intermediate_size": 128,
        "max_position_embeddings": 4096,
        "dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, **more}))
    (tmp_path / "tokenizer.json").write_text("{}")
    write_safetensors(tmp_path / "model.safetensors", {"weight": 16})
    words = ["serve", str(tmp_path), "--dry-run", "--max-model-len"]
    assert dgx_vllm(*words, str(longest)).status == 0
    assert f"more than the {longest} tokens" in dgx_vllm(*words, str(longest + 1)).err
    assert context_length.tokens({**config, **more}) == longest


def test_a_window_limits_where_windows_are_off(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"max_position_embeddings": 4096, "sliding_window": 512}')
    words = ["serve", str(checkpoint), "--dry-run", "--max-model-len", "4096"]
    assert dgx_vllm(*words).status == 0
    assert (
        "512 tokens that the model can do (sliding_window)"
        in dgx_vllm(*words, "--disable-sliding-window").err
    )


def test_sentence_transformers_limit_of_its_own(dgx_vllm: Run, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"max_position_embeddings": 512}')
    (checkpoint / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    words = ["serve", str(checkpoint), "--dry-run", "--max-model-len"]
    assert dgx_vllm(*words, "256").status == 0
    assert "256 tokens" in dgx_vllm(*words, "512").err


def test_a_tokenizer_limits_a_pooling_model_with_absolute_positions(dgx_vllm: Run, checkpoint: Path) -> None:
    config = {
        "max_position_embeddings": 1024,
        "position_embedding_type": "absolute",
        "architectures": ["BertModel"],
    }
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    words = ["serve", str(checkpoint), "--dry-run", "--max-model-len", "1024"]
    assert "512 tokens" in dgx_vllm(*words).err
    assert dgx_vllm(*words, "--runner", "generate").status == 0
