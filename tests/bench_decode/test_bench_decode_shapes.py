"""Shapes: what vLLM makes of a config that was written for random weights."""

from pathlib import Path

import pytest

pytest.importorskip("vllm")

from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config

from dgx_vllm.bench_decode import model_configs
from dgx_vllm.checkpoints.checkpoint import json_object
from dgx_vllm.util.errors import UserError

NAME = "qwen3-next-80b-a3b"
#: As vLLM fuses them in Qwen3-Next.
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def test_what_is_left_in_bf16() -> None:
    """The projections in front of attention and GDN, routers and the head; not what follows them."""
    config = ModelOptNvFp4Config.from_config(model_configs.config(NAME)["quantization_config"])
    config.packed_modules_mapping = FUSED
    left = {
        name: config.is_layer_excluded(name)
        for name in (
            "lm_head",
            "model.layers.0.mlp.gate",
            "model.layers.47.mlp.shared_expert_gate",
            "model.layers.46.linear_attn.in_proj_qkvz",
            "model.layers.46.linear_attn.in_proj_ba",
            "model.layers.47.self_attn.qkv_proj",
            "mtp.layers.0.self_attn.qkv_proj",
            "model.layers.47.self_attn.o_proj",
            "model.layers.46.linear_attn.out_proj",
            "model.layers.3.mlp.shared_expert.gate_up_proj",
            "model.layers.3.mlp.experts",
        )
    }
    assert list(left.values()) == [True] * 7 + [False] * 4, left


@pytest.mark.parametrize("layers", [None, 4, 48])
def test_a_written_config_has_the_layers_asked_for(layers: int | None, tmp_path: Path) -> None:
    config = json_object(model_configs.write(tmp_path, NAME, layers) / "config.json")
    count = layers or 48
    assert config["num_hidden_layers"] == len(config["layer_types"]) == count
    assert config["layer_types"].count("full_attention") == count // 4
    assert config["quantization_config"]["ignore"][-1].startswith(f"model.layers.{count - 1}.")


@pytest.mark.parametrize("layers", [0, -4, 3, 52])
def test_layers_that_it_has_not(layers: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every 4th differs; give a multiple"):
        model_configs.write(tmp_path, NAME, layers)
