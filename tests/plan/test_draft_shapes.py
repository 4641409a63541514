"""Checkpoints that draft, from their config.json alone, against what is published of their files."""

from typing import Any

import pytest

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import draft_shapes, families, model
from dgx_vllm.plan.architecture import Attention
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.source import Source
from dgx_vllm.util.errors import UserError
from helpers.draft_configs import (
    DFLASH2_27B,
    DFLASH_122B,
    DSPARK_LIGHTNING,
    EAGLE3_GPT_OSS,
    EAGLE3_SPECULATORS,
)


def understood(config: dict[str, Any]) -> Model:
    return model.understand(Source("draft", config))


def without(drafter: Model, *parts: Part) -> int:
    return sum(weight.bytes for weight in drafter.weights if weight.part not in parts)


def test_dflash2_is_as_large_as_its_published_file() -> None:
    """3,848,817,896 bytes, of which the header takes 8,936."""
    drafter = understood(DFLASH2_27B)
    assert drafter.bytes(drafting=True) == 3_848_817_896 - 8_936
    assert drafter.architecture.attention == (Attention(5, 8, 128, 2048),)


def test_dspark_is_as_large_as_its_published_file() -> None:
    """1,349,081,120 bytes in another file of the same tensors, norms and a header among them."""
    assert understood(DSPARK_LIGHTNING).bytes(drafting=True) == pytest.approx(1_349_081_120, rel=1e-4)


def test_a_dflash_with_both_kinds_of_attention_has_the_published_parameters() -> None:
    """773.9 million; published as 1.55 GB."""
    drafter = understood(DFLASH_122B)
    assert sum(weight.parameters for weight in drafter.weights) == pytest.approx(773.9e6, rel=1e-4)
    assert drafter.architecture.attention == (Attention(1, 8, 128), Attention(5, 8, 128, 4096))


def test_eagle3_has_the_published_parameters_without_a_head() -> None:
    """215,470,080 in matrices; its file has neither embedding nor lm_head, and the config does not say so."""
    drafter = understood(EAGLE3_GPT_OSS)
    matrices = [weight for weight in drafter.weights if weight.part not in (Part.LM_HEAD, Part.NORMS)]
    assert sum(weight.parameters for weight in matrices) == 215_470_080
    head = next(weight for weight in drafter.weights if weight.part is Part.LM_HEAD)
    assert head.bytes == 201088 * 2880 * 2


def test_a_speculators_eagle3_has_embedding_and_a_small_head() -> None:
    """1,524,718,080 bytes with the embedding, 366,451,200 without, up to norms."""
    drafter = understood(EAGLE3_SPECULATORS)
    assert drafter.bytes(drafting=True) == pytest.approx(1_524_718_080, rel=1e-3)
    assert without(drafter, Part.EMBEDDING) == pytest.approx(366_451_200, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "kind", "most"),
    [
        (DFLASH2_27B, "dflash", 7),
        (DFLASH_122B, "dflash", 15),
        (DSPARK_LIGHTNING, "dspark", 7),
        (DSPARK_LIGHTNING | {"sample_from_anchor": True}, "dspark", 8),
        (EAGLE3_GPT_OSS, "eagle3", None),
        (EAGLE3_SPECULATORS, "eagle3", 5),
        ({"architectures": ["LlamaForCausalLM"], "block_size": 8}, None, None),
        ({}, None, None),
    ],
)
def test_a_config_tells_the_kind_and_how_many_it_drafts(
    config: dict[str, Any], kind: str | None, most: int | None
) -> None:
    assert draft_shapes.kind(config) == kind
    assert draft_shapes.most(config) == most


def test_the_shape_has_the_kind_as_its_family() -> None:
    assert {families.read("draft", config).family for config in (DFLASH2_27B, DFLASH_122B)} == {"dflash"}


def test_hidden_states_that_are_not_listed_are_asked_for() -> None:
    config = {**DFLASH_122B, "dflash_config": {}}
    with pytest.raises(UserError, match="lacks target_layer_ids"):
        understood(config)
