"""Where a config describes its language model, and how it says that the weights are quantized."""

from typing import Any

import pytest

from dgx_vllm.checkpoints import checkpoint, fields, sparsity

_SPARSE = {"quant_method": "modelopt", "weight_sparsity": {"pattern": "2:4", "targets": ["x"], "method": "y"}}


def _nested(part: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in reversed(names):
        part = {"model_type": "outer", name: part}
    return part


@pytest.mark.parametrize("names", [(), ("text_config",), ("llm_config",), ("thinker_config", "text_config")])
def test_every_reader_finds_the_language_model(names: tuple[str, ...]) -> None:
    inner = {"linear_num_value_heads": 32, "quantization_config": _SPARSE}
    config = _nested(inner, *names)
    assert fields.language_part(config) is inner
    assert len(fields.language_parts(config)) == 1 + len(names)
    assert fields.text_part("model", config).whole("linear_num_value_heads") == 32
    assert checkpoint.has_gated_delta_net(config)
    assert checkpoint.quantization(config) == "modelopt"
    assert sparsity.declared(config) == sparsity.Sparsity("2:4", ("x",), "y")


@pytest.mark.parametrize("part", [None, {}, [], "llama"])
def test_part_without_fields_is_not_the_language_model(part: Any) -> None:
    config = {"model_type": "llama", "text_config": part}
    assert fields.language_part(config) is config


def test_outer_quantization_counts_before_the_language_models() -> None:
    outer, inner = {"quant_method": "fp8"}, {"quant_method": "modelopt"}
    config = {"compression_config": outer, "text_config": {"quantization_config": inner}}
    assert fields.quantization_config(config) is outer
    assert fields.quantization_config({**config, "compression_config": {}}) is inner
    assert fields.quantization_config({"model_type": "llama"}) is None
