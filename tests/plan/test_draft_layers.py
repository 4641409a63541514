"""Draft layers, wherever a checkpoint has them: no part of the model's weights, and counted with drafts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.model_executor.models.utils import get_spec_layer_idx_from_weight_name

from dgx_vllm.formats import tensor_roles
from dgx_vllm.plan import model, outlook, source
from dgx_vllm.plan.outlook import PlanRequest
from helpers.header_checkpoints import write
from helpers.planning import BASE, planned, weights

_OWN = ("BF16", (32, 64))

#: A tensor of a draft layer, by what vLLM drops as it loads each model itself: the model's fields, the name.
_DRAFTS: list[tuple[dict[str, Any], str]] = [
    ({"num_nextn_predict_layers": 1}, "model.layers.2.self_attn.o_proj.weight"),  # GLM-4.5, DeepSeek-V3
    ({"num_nextn_predict_layers": 1}, "model.layers.2.shared_head.head.weight"),
    ({"num_nextn_predict_layers": 1}, "model.language_model.layers.2.eh_proj.weight"),  # GLM-OCR
    ({"num_nextn_predict_layers": 1}, "language_model.model.layers.2.eh_proj.weight"),  # Kimi K3
    ({"num_nextn_predict_layers": 3}, "model.layers.4.mlp.experts.7.up_proj.weight"),  # Step 3.5
    ({"num_mtp_modules": 3}, "model.layers.3.block_sparse_moe.experts.0.w1.weight"),  # MiniMax-M2
    ({}, "mtp.layers.0.mlp.up_proj.weight"),  # Qwen3-Next, Qwen3.5, EXAONE, Nemotron-H
    ({}, "mtp.0.ffn.experts.1.w1.weight"),  # DeepSeek-V4
    ({}, "model.mtp.layers.0.eh_proj.weight"),  # MiMo-V2, LongCat, Inkling
    ({}, "model.mtp_layers.0.input_proj.weight"),  # MiMo, HY-V4
    ({}, "model.mtp_block.0.self_attn.o_proj.weight"),  # Ernie 4.5
    ({}, "model.mtp_linear_proj.0.weight"),
    ({}, "model.mtp_emb_norm.0.weight"),
    ({}, "language_model.mtp.layers.0.eh_proj.weight"),  # Dots 3
]


@pytest.mark.parametrize(("fields", "name"), _DRAFTS, ids=lambda value: str(value))
def test_a_draft_layer_counts_only_where_drafts_are_on(
    tmp_path: Path, fields: dict[str, Any], name: str
) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2} if ".experts." in name else {}
    config = {"model_type": "brand_new", **BASE, **experts, **fields}
    tensors = {"model.embed_tokens.weight": ("BF16", (256, 64)), "lm_head.weight": ("BF16", (256, 64))}
    own = {"model.layers.0.self_attn.o_proj.weight": _OWN, "model.layers.1.self_attn.o_proj.weight": _OWN}
    directory = write(tmp_path, config, {**tensors, **own, name: _OWN})
    plan = planned(directory)
    assert weights(plan, draft=False) == (2 * 256 * 64 + 2 * 32 * 64) * 2
    assert weights(plan, draft=True) == 32 * 64 * 2
    moved = sum(each["bytes"] for each in plan["decode"]["bytes_by_part"])
    # The embedding's one row, the two layers, the lm_head, and the KV cache of 1024 tokens.
    assert moved == (64 + 2 * 32 * 64 + 256 * 64) * 2 + 1024 * plan["cache"]["bytes_per_token"]
    found = model.understand(source.find(str(directory), {}))
    assert found.bytes(drafting=True) - found.bytes(drafting=False) == 32 * 64 * 2
    drafting = outlook.of(found, None, PlanRequest(10**11, "given", drafts=1))
    assert drafting.cache is not None
    assert drafting.cache.token_bytes > plan["cache"]["bytes_per_token"]


@pytest.mark.parametrize("stem", ["vision_tower.encoder", "model.visual", "vision_model"])
def test_a_vision_towers_layers_are_no_drafts(stem: str) -> None:
    assert not tensor_roles.is_draft(f"{stem}.layers.30.mlp.fc1.weight", range(28, 40))


@given(
    layers=st.integers(1, 100),
    drafts=st.integers(0, 4),
    index=st.integers(0, 110),
    root=st.sampled_from(["model.", "", "model.language_model."]),
)
def test_numbered_drafts_are_those_of_vllm(layers: int, drafts: int, index: int, root: str) -> None:
    name = f"{root}layers.{index}.mlp.up_proj.weight"
    config: Any = SimpleNamespace(num_hidden_layers=layers, num_nextn_predict_layers=drafts)
    theirs = get_spec_layer_idx_from_weight_name(config, name)
    assert tensor_roles.is_draft(name, range(layers, layers + drafts)) == (theirs is not None)
