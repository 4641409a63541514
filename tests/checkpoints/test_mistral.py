"""Mistral's own format: its config and its tensors' names, as vLLM and the planner read them."""

from pathlib import Path
from typing import Any

import pytest

from dgx_vllm.checkpoints import mistral
from dgx_vllm.formats import tensor_roles
from dgx_vllm.formats.tensor_roles import Part
from helpers.header_checkpoints import write
from helpers.planning import planned

DENSE = {"dim": 64, "n_layers": 4, "head_dim": 16, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 2}
MOE = {"num_experts": 8, "num_experts_per_tok": 2}
LARGE = {
    **{"num_experts": 16, "num_experts_per_tok": 4, "num_shared_experts": 1, "expert_hidden_dim": 32},
    **{"first_k_dense_replace": 1, "route_every_n": 1, "routed_scale": 2.5},
    **{"num_expert_groups": 1, "num_expert_groups_per_tok": 1},
}
SCALING = {"llama_4_scaling": {"original_max_position_embeddings": 8192, "beta": 0.1}}
LATENT = {"q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "kv_lora_rank": 16, "v_head_dim": 8}


@pytest.mark.parametrize(
    "params",
    [
        DENSE,
        {**DENSE, "max_position_embeddings": 4096, "tied_embeddings": True, "norm_eps": 1e-5},
        {**DENSE, "sliding_window": 1024},
        {**DENSE, "sliding_window": [None, 512]},
        {**DENSE, "quantization": {"qformat_weight": "fp8_e4m3"}},
        {**DENSE, "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "NO_SCALES"}},
        {**DENSE, "quantization": {"quant_method": "Compressed_Tensors", "config_groups": {}}},
        {**DENSE, "vision_encoder": {"hidden_size": 8}},
        {**DENSE, "multimodal": {"vision_encoder_args": {"hidden_size": 8}}},
        {**DENSE, "moe": MOE},
        {**DENSE, **LATENT, "moe": LARGE, **SCALING},
    ],
    ids=str,
)
def test_the_config_is_the_one_that_vllm_makes(params: dict[str, Any]) -> None:
    import copy

    from vllm.transformers_utils.configs.mistral import adapt_config_dict

    given = copy.deepcopy(params)
    # vLLM fills this in before, from a config.json or with its default.
    given.setdefault("max_position_embeddings", 128_000)
    theirs = adapt_config_dict(given, {}).to_dict()
    ours = mistral.adapted(params)
    inner, outer = ours.get("text_config", ours), theirs.get("text_config", theirs)
    outer = outer if isinstance(outer, dict) else outer.to_dict()
    named = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("intermediate_size", "max_position_embeddings", "sliding_window", "layer_types", "kv_lora_rank"),
        *("n_routed_experts", "n_shared_experts", "moe_intermediate_size", "first_k_dense_replace"),
        *("qk_rope_head_dim", "v_head_dim"),
    )
    for name in named:
        assert inner.get(name) == outer.get(name), name
    assert ours.get("quantization_config") == theirs.get("quantization_config")
    assert ("vision_config" in ours) == ("vision_config" in theirs)
    assert inner.get("tie_word_embeddings", False) == outer.get("tie_word_embeddings", False)
    experts = params.get("moe")
    assert experts is None or inner["num_experts_per_tok"] == experts["num_experts_per_tok"]


def test_a_mamba_is_not_taken_for_a_model_with_attention(tmp_path: Path) -> None:
    params = {"dim": 64, "n_layers": 2, "vocab_size": 256, "n_groups": 8, "model_type": "mamba"}
    write(tmp_path, params, {"tok_embeddings.weight": ("BF16", (256, 64))})
    (tmp_path / "config.json").rename(tmp_path / "params.json")
    (tmp_path / "model.safetensors").rename(tmp_path / "consolidated.safetensors")
    plan = planned(tmp_path)
    assert plan["architecture"] == "mamba"
    assert plan["cache"]["bytes_per_token"] is None
    assert plan["unknown"] == ["what a sequence keeps"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("tok_embeddings.weight", Part.EMBEDDING),
        ("output.weight", Part.LM_HEAD),
        ("norm.weight", Part.NORMS),
        ("layers.0.attention_norm.weight", Part.NORMS),
        ("layers.0.attention.wq.weight", Part.ATTENTION_QKV),
        ("layers.0.attention.wk.weight", Part.ATTENTION_QKV),
        ("layers.0.attention.wo.weight", Part.ATTENTION_OUT),
        ("layers.0.feed_forward.w1.weight", Part.MLP),
        ("layers.0.experts.3.w2.weight", Part.EXPERTS),
        ("layers.0.gate.weight", Part.ROUTER),
        ("vision_encoder.transformer.layers.0.attention.wq.weight", Part.VISION),
    ],
)
def test_the_role_of_a_mistral_tensor_is_told_by_its_name(name: str, part: Part) -> None:
    assert tensor_roles.of(name) is part
