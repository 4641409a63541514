"""Checkpoints of architectures that are not known by name: nothing is refused, and nothing is made up."""

import json
from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.plan import model, outlook, report, source
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.util.errors import UserError
from helpers.header_checkpoints import write
from helpers.planning import BASE, planned, weights

_TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "model.embed_tokens.weight": ("BF16", (256, 64)),
    "model.layers.0.mlp.experts.0.up_proj.weight": ("BF16", (32, 64)),
    "lm_head.weight": ("BF16", (256, 64)),
}


@pytest.mark.parametrize(
    ("fields", "experts"),
    [
        ({"num_experts": 8, "top_k_experts": 2}, (8, 2)),  # Gemma 4
        ({"num_experts": 8, "num_experts_per_token": 2}, (8, 2)),  # Kimi Linear
        ({"n_routed_experts": 8, "moe_topk": 2}, (8, 2)),  # LongCat
        ({"num_experts": 8, "moe_topk": [2, 2]}, (8, 2)),  # Hunyuan
        ({"moe_num_experts": 8, "moe_top_k": 2}, (8, 2)),  # Step
        ({"moe_num_experts": [8, 8], "moe_k": 2}, (8, 2)),  # Ernie
        ({"num_local_experts": 8, "experts_per_token": 2}, (8, 2)),
        ({"ffn_config": {"moe_num_experts": 8, "moe_top_k": 2}}, (8, 2)),  # DBRX
    ],
    ids=str,
)
@pytest.mark.parametrize("part", ["", "text_config", "llm_config", "language_config", "thinker_config"])
def test_experts_are_found_by_the_names_of_vllms_models(
    tmp_path: Path, fields: dict[str, Any], experts: tuple[int, int], part: str
) -> None:
    inner = {**BASE, **fields}
    config = {"model_type": "brand_new", **({part: inner} if part else inner)}
    if part == "thinker_config":
        config = {"model_type": "brand_new", part: {"text_config": inner}}
    plan = planned(write(tmp_path, config, _TENSORS))
    assert (plan["experts"], plan["experts_per_token"]) == experts
    assert plan["unknown"] == []
    assert plan["decode"]["batches"][0]["experts"] == experts[1]
    assert plan["cache"]["bytes_per_token"] == 2 * 2 * 2 * 16 * 2


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({"num_attention_groups": 1}, 1),
        ({"multi_query_group_num": 1}, 1),
        ({"n_head_kv": 1}, 1),
        ({"num_kv_heads": 1}, 1),
        ({"num_key_value_heads": [1, 3]}, 2),
        ({"multi_query": True}, 1),
        ({"attn_config": {"kv_n_heads": 1}}, 1),
        ({}, 4),
    ],
    ids=str,
)
def test_key_value_heads_are_found_by_the_names_of_vllms_models(
    tmp_path: Path, fields: dict[str, Any], heads: int
) -> None:
    bare = {name: value for name, value in BASE.items() if name != "num_key_value_heads"}
    plan = planned(write(tmp_path, {"model_type": "brand_new", **bare, **fields}, _TENSORS))
    assert plan["cache"]["bytes_per_token"] == 2 * 2 * heads * 16 * 2


def test_layers_of_one_model_may_keep_different_amounts(tmp_path: Path) -> None:
    """Gemma 4: full attention has wider heads; Step 3.5: sliding attention has other groups."""
    gemma = {
        **{"model_type": "brand_new", "layer_types": ["sliding_attention", "full_attention"]},
        **{"sliding_window": 128, "global_head_dim": 32, "num_global_key_value_heads": 1},
    }
    plan = planned(write(tmp_path / "gemma", {**BASE, **gemma, "attention_k_eq_v": True}, _TENSORS))
    assert plan["cache"]["bytes_per_token"] == 2 * 1 * 32 * 2
    assert plan["cache"]["window_bytes_per_token"] == 2 * 2 * 16 * 2
    other = {"attention_type": "sliding_attention", "num_attention_groups": 1, "head_dim": 8}
    step = {
        **{"model_type": "brand_new", "layer_types": ["sliding_attention", "full_attention"]},
        **{"sliding_window": 128, "attention_other_setting": other},
    }
    plan = planned(write(tmp_path / "step", {**BASE, **step}, _TENSORS))
    assert plan["cache"]["bytes_per_token"] == 2 * 2 * 16 * 2
    assert plan["cache"]["window_bytes_per_token"] == 2 * 1 * 8 * 2


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        (["num_experts_per_tok"], ["how many experts a layer has and a token uses"]),
        (["num_experts", "num_experts_per_tok"], ["how many experts a layer has and a token uses"]),
        (["num_hidden_layers"], ["how many layers there are", "what a sequence keeps"]),
        (["vocab_size"], ["how large the vocabulary is"]),
        (["num_attention_heads", "num_key_value_heads"], ["what a sequence keeps"]),
        (
            ["hidden_size", "head_dim"],
            ["how wide a layer is", "what a sequence keeps"],
        ),
    ],
    ids=str,
)
def test_what_a_config_leaves_out_costs_its_own_line(
    tmp_path: Path, missing: list[str], unknown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    config = {"model_type": "brand_new", **BASE, "num_experts": 8, "num_experts_per_tok": 2}
    directory = write(
        tmp_path, {name: value for name, value in config.items() if name not in missing}, _TENSORS
    )
    plan = planned(directory)
    assert plan["unknown"] == unknown
    assert weights(plan, False) == (2 * 256 * 64 + 32 * 64) * 2
    assert plan["memory"]["kv_cache"] > 0
    cached = "what a sequence keeps" not in unknown
    assert (plan["cache"]["bytes_per_token"] is not None) == cached
    assert bool(plan["memory"]["fits"]) == cached
    assert plan["decode"] is None
    found = model.understand(source.find(str(directory), {}))
    report.show(outlook.of(found, None, PlanRequest(10**11, "given")), Console(width=160))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("unknown: ")]
    assert lines == [f"unknown: {each}. The config does not say." for each in unknown]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "llama"},
        {"model_type": "qwen3_next", "num_hidden_layers": "many"},
        {"model_type": "nemotron_h", "hidden_size": 64},
        {"model_type": "brand_new", "num_key_value_heads": "two", "layer_types": 5, **BASE},
        {**BASE, "model_type": "brand_new", "layer_types": ["full_attention"]},
        {**BASE, "model_type": "brand_new", "layer_types": ["full_attention", "wavelets"]},
        {**BASE, "model_type": "brand_new", "text_config": None, "dtype": "int3"},
        {**BASE, "model_type": "brand_new", "quantization_config": {"quant_method": "magic"}},
        {**BASE, "model_type": "brand_new", "quantization_config": [1]},
    ],
    ids=str,
)
def test_no_config_keeps_weights_that_are_there_from_a_plan(tmp_path: Path, config: dict[str, Any]) -> None:
    plan = planned(write(tmp_path, config, _TENSORS))
    assert sum(each["parameters"] for each in plan["weights"]) == 2 * 256 * 64 + 32 * 64


@pytest.mark.parametrize(
    "fields",
    [
        {"mamba_d_state": 16},
        {"linear_attn_config": {"kda_layers": [1]}},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"index_topk": 2048},
        {"compress_ratios": [4, 4]},
        {"is_encoder_decoder": True},
    ],
    ids=str,
)
def test_states_of_unknown_layers_are_not_taken_for_keys_and_values(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    plan = planned(write(tmp_path, {"model_type": "brand_new", **BASE, **fields}, _TENSORS))
    assert "what a sequence keeps" in plan["unknown"]
    assert plan["cache"]["bytes_per_token"] is None


def test_a_known_language_model_is_known_inside_of_another(tmp_path: Path) -> None:
    """Nemotron-Omni's states are Nemotron-H's: a convolution of 96 channels and 4 heads of 16 x 16."""
    text = {
        **BASE,
        **{"model_type": "nemotron_h", "hybrid_override_pattern": "M*", "intermediate_size": 128},
        **{"mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 1, "ssm_state_size": 16, "conv_kernel": 4},
    }
    config = {"model_type": "brand_new_omni", "llm_config": text, "vision_config": {"hidden_size": 32}}
    plan = planned(write(tmp_path, config, {"model.embed_tokens.weight": ("BF16", (256, 64))}))
    assert plan["unknown"] == []
    assert plan["cache"]["bytes_per_token"] == 2 * 2 * 16 * 2
    assert plan["cache"]["state_bytes_per_sequence"] == 96 * 3 * 2 + 4 * 16 * 16 * 4


def test_fields_that_a_config_leaves_to_its_class_are_that_classs(tmp_path: Path) -> None:
    """Gemma 3's published configs say neither heads nor their size."""
    text = {"model_type": "gemma3_text", "hidden_size": 2304, "num_hidden_layers": 6}
    plan = planned(write(tmp_path, {"model_type": "gemma3", "text_config": text}, _TENSORS))
    # Five sliding layers to a full one, each with 4 heads of 256 numbers.
    assert plan["cache"]["bytes_per_token"] == 2 * 4 * 256 * 2
    assert plan["cache"]["window_bytes_per_token"] == 5 * 2 * 4 * 256 * 2


def test_an_absent_class_leaves_unknown_what_it_would_tell(tmp_path: Path) -> None:
    plan = planned(write(tmp_path, {"model_type": "brand_new", "hidden_size": 64}, _TENSORS))
    assert "how many layers there are" in plan["unknown"]


@pytest.mark.parametrize(("dtype", "loaded"), [("bfloat16", 1000), ("float32", 500)])
def test_weights_without_a_header_count_by_their_size(tmp_path: Path, dtype: str, loaded: int) -> None:
    config = {"model_type": "brand_new", **BASE, "dtype": dtype}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(1000))
    plan = planned(tmp_path)
    assert weights(plan, False) == loaded
    assert plan["unknown"] == []
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_experts": 8, "moe_topk": 2}))
    assert planned(tmp_path)["unknown"] == ["how many experts a layer has and a token uses"]
    quantized = {**config, "quantization_config": {"quant_method": "magic"}}
    (tmp_path / "config.json").write_text(json.dumps(quantized))
    assert weights(planned(tmp_path), False) == 1000


def test_float32_is_counted_as_vllm_loads_it(tmp_path: Path) -> None:
    config = {**BASE, "model_type": "brand_new", "dtype": "float32"}
    wide = {name: ("F32", shape) for name, (_, shape) in _TENSORS.items()}
    plan = planned(write(tmp_path, config, wide))
    assert weights(plan, False) == (2 * 256 * 64 + 32 * 64) * 2
    assert plan["cache"]["bytes_per_token"] == 2 * 2 * 2 * 16 * 2
    assert plan["dtype"] == "bfloat16"


@pytest.mark.parametrize(("kinds", "told"), [([0, 1], False), ([1, 1], True)], ids=str)
def test_linear_attention_by_numbers_is_not_planned_as_keys_and_values(
    tmp_path: Path, kinds: list[int], told: bool
) -> None:
    """MiniMax-Text-01 has both; MiniMax-M2 has the list, and attention alone."""
    config = {"model_type": "brand_new", **BASE, "attn_type_list": kinds}
    plan = planned(write(tmp_path, config, _TENSORS))
    assert (plan["cache"]["bytes_per_token"] == 256) is told
    assert ("what a sequence keeps" in plan["unknown"]) is not told


@pytest.mark.parametrize("family", ["llama", "brand_new"])
def test_pickled_weights_in_a_quantization_that_is_unknown_count_as_they_are(
    tmp_path: Path, family: str
) -> None:
    config = {**BASE, "intermediate_size": 128, "quantization_config": {"quant_method": "aqlm"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": family}))
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(1000))
    plan = planned(tmp_path)
    assert weights(plan, draft=False) == 1000
    assert (plan["exact"], plan["quantization"]) == (True, "unknown")


def test_a_file_that_is_missing_is_named_where_the_config_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, {"model_type": "brand_new", **BASE}, _TENSORS)
    names = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        planned(tmp_path)
