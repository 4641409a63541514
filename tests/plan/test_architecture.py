"""Parameter counts against transformers' own models, built without memory."""

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT, understood

from dgx_vllm.formats import tensor_roles
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import families

_SMALL: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 2, "num_key_value_heads": 8},
    "mistral": {"num_hidden_layers": 2},
    "mixtral": {"num_hidden_layers": 2, "num_local_experts": 4},
    "qwen2": {"num_hidden_layers": 2, "num_key_value_heads": 4},
    "qwen3": {"num_hidden_layers": 2, "num_key_value_heads": 8, "head_dim": 128},
    "qwen3_moe": {"num_hidden_layers": 4, "num_experts": 8, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "qwen3_next": {"num_hidden_layers": 8, "num_experts": 8},
    "qwen3_5_text": {"num_hidden_layers": 4, "vocab_size": 1024},
    "qwen3_5_moe_text": {"num_hidden_layers": 4, "num_experts": 8, "vocab_size": 1024},
    "gpt_oss": {"num_hidden_layers": 2, "num_local_experts": 4},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
}


@functools.cache
def counted(family: str, images: bool = False) -> tuple[dict[str, Any], int]:
    """A config and its model's parameters, by transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    changes = _SMALL.get(family, {})
    if images:
        changes = {"text_config": _SMALL[f"{family}_text"], "vision_config": {"depth": 2}}
    config = AutoConfig.for_model(family, **changes)
    with torch.device("meta"):
        model = (AutoModelForImageTextToText if images else AutoModelForCausalLM).from_config(config)
    return config.to_dict(), sum(parameter.numel() for parameter in model.parameters())


def planned(config: dict[str, Any]) -> int:
    """Without what transformers leaves out: MTP layers, and Nemotron-H's router bias, to it a buffer."""
    architecture = families.read("model", config)
    return sum(
        tensor.parameters
        for tensor in architecture.tensors
        if not tensor_roles.is_draft(tensor.name) and not tensor.name.endswith("e_score_correction_bias")
    )


@pytest.mark.parametrize("family", _SMALL)
def test_parameters_are_those_of_transformers(family: str) -> None:
    config, parameters = counted(family)
    assert planned(config) == parameters


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_moe"])
def test_vision_towers_too(family: str) -> None:
    config, parameters = counted(family, images=True)
    assert planned(config) == parameters
    kinds = {tensor_roles.of(tensor.name) for tensor in families.read("model", config).tensors}
    assert Part.VISION in kinds


@pytest.mark.parametrize("family", _SMALL)
def test_every_tensor_has_a_part(family: str) -> None:
    config, _ = counted(family)
    named = {tensor.name: tensor_roles.of(tensor.name) for tensor in families.read("model", config).tensors}
    assert not [name for name, part in named.items() if part is Part.OTHER]


def test_the_published_size_is_met() -> None:
    """80 billion parameters, of which 3 billion are used for a token."""
    architecture = understood(QWEN3_NEXT).architecture
    count = sum(
        tensor.parameters for tensor in architecture.tensors if not tensor_roles.is_draft(tensor.name)
    )
    assert count == pytest.approx(80e9, rel=0.01)
    experts = sum(
        tensor.parameters
        for tensor in architecture.tensors
        if tensor_roles.of(tensor.name) is Part.EXPERTS and not tensor_roles.is_draft(tensor.name)
    )
    active = count - experts * (1 - 10 / 512)
    assert active == pytest.approx(3.9e9, rel=0.05)  # 3 billion without embedding and lm_head


@given(
    layers=st.integers(1, 12),
    hidden=st.integers(1, 64).map(lambda n: 32 * n),
    experts=st.integers(2, 64),
    interval=st.integers(1, 6),
)
def test_states_and_caches_cover_every_layer(layers: int, hidden: int, experts: int, interval: int) -> None:
    architecture = understood(
        QWEN3_NEXT,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_experts=experts,
        num_experts_per_tok=2,
        full_attention_interval=interval,
    ).architecture
    kept = sum(kind.layers for kind in architecture.attention)
    assert kept + (architecture.recurrent.layers if architecture.recurrent else 0) == layers
