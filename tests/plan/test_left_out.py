"""Tensors that vLLM drops whatever it serves: no part of the weights."""

import importlib
from pathlib import Path

import pytest

from dgx_vllm.formats import tensor_roles
from helpers.header_checkpoints import write
from helpers.planning import BASE, planned, weights

#: A model of vLLM, a tensor of its checkpoints that it drops, and one that it loads.
_MODELS = [
    (
        "qwen3_omni_moe_thinker.Qwen3OmniMoeThinkerForConditionalGeneration",
        "talker.model.layers.0.mlp.up_proj.weight",
        "thinker.model.layers.0.mlp.up_proj.weight",
    ),
    (
        "qwen3_omni_moe_thinker.Qwen3OmniMoeThinkerForConditionalGeneration",
        "code2wav.decoder.0.conv.weight",
        "thinker.audio_tower.conv2d1.weight",
    ),
    (
        "qwen2_5_omni_thinker.Qwen2_5OmniThinkerForConditionalGeneration",
        "token2wav.code2wav_dit_model.proj.weight",
        "thinker.visual.merger.mlp.0.weight",
    ),
    ("minicpmo.MiniCPMO", "tts.model.layers.0.mlp.up_proj.weight", "llm.model.norm.weight"),
    (
        "mimo_v2_omni.MiMoV2OmniForCausalLM",
        "audio_tokenizer.encoder.conv1.weight",
        "speech_embeddings.0.weight",
    ),
    (
        "kimi_audio.KimiAudioForConditionalGeneration",
        "mimo_layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
    ),
    ("kimi_audio.KimiAudioForConditionalGeneration", "mimo_output.weight", "lm_head.weight"),
    ("kimi_audio.KimiAudioForConditionalGeneration", "mimo_norm.weight", "model.norm.weight"),
    (
        "phi4mm.Phi4MMForCausalLM",
        "model.layers.0.mlp.down_proj.lora_A.speech.weight",
        "model.layers.0.mlp.down_proj.base_layer.weight",
    ),
]


@pytest.mark.parametrize(("model", "dropped", "loaded"), _MODELS, ids=str)
def test_what_vllm_drops_is_left_out(model: str, dropped: str, loaded: str) -> None:
    module, name = model.split(".")
    found = getattr(importlib.import_module(f"vllm.model_executor.models.{module}"), name)
    for tensor in (dropped, loaded):
        assert tensor_roles.is_left_out(tensor) is (not found.hf_to_vllm_mapper.apply_list([tensor])), tensor


def test_what_speaks_is_no_part_of_the_weights(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_omni_moe", "thinker_config": {"text_config": BASE}}
    own = {
        "thinker.model.embed_tokens.weight": ("BF16", (256, 64)),
        "thinker.lm_head.weight": ("BF16", (256, 64)),
    }
    more = {"talker.model.norm.weight": ("BF16", (64,)), "code2wav.a.weight": ("F32", (64, 64))}
    plan = planned(write(tmp_path, config, {**own, **more}))
    assert weights(plan, draft=False) == 2 * 256 * 64 * 2
    assert weights(plan, draft=True) == 0
