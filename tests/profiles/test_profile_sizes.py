"""The sizes that come with the package against the published configs, the published files, and arithmetic."""

import math
from typing import Any

import known_configs
import pytest

from dgx_vllm.plan import cache, known_sizes, model, source
from dgx_vllm.plan.cache import Cache, Options
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.profiles.sizes.model_sizes import ModelSizes

by_published = pytest.mark.parametrize(
    "sizes",
    [sizes for sizes in model_sizes.builtin() if sizes.published_bytes],
    ids=lambda sizes: sizes.model,
)

#: Planning does not read their config.json: the sizes are those of the files, and they keep no cache.
_BY_FILES = {"google/gemma-4-26B-A4B-it-assistant"}
by_config = pytest.mark.parametrize(
    "sizes",
    [sizes for sizes in model_sizes.builtin() if sizes.model not in _BY_FILES],
    ids=lambda sizes: sizes.model,
)
#: Its 47 GB were said of the model without the MTP layer, see tests/plan/test_weights.py.
_WITHOUT_DRAFT = "nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4"


def config_of(sizes: ModelSizes) -> dict[str, Any]:
    config = known_configs.config(sizes.model)
    if config is None:
        pytest.fail(f"add config.json of {sizes.model} to tests/profiles/published_configs.py")
    return config


@by_config
def test_sizes_are_what_plan_makes_of_the_published_config(sizes: ModelSizes) -> None:
    understood = model.understand(source.Source(sizes.model, config_of(sizes)))
    assert known_sizes.sizes(sizes.model, understood, sizes.revision, sizes.published_bytes) == sizes


@by_published
def test_weights_take_what_the_published_files_take(sizes: ModelSizes) -> None:
    drafting = sizes.model != _WITHOUT_DRAFT
    total = sum(weight.bytes for weight in sizes.weights if drafting or not weight.draft)
    assert total == pytest.approx(sizes.published_bytes, rel=0.01)


# --- what sequences keep, by the config's own fields ------------------------------------------------------


def delta_nets(config: dict[str, Any]) -> tuple[int, int, int]:
    """Qwen: numbers in keys and values of one token; the same in windows; bytes of one sequence's states."""
    text = config.get("text_config", config)
    full = text["layer_types"].count("full_attention")
    linear = text["layer_types"].count("linear_attention")
    keys = text["linear_num_key_heads"] * text["linear_key_head_dim"]
    values = text["linear_num_value_heads"] * text["linear_value_head_dim"]
    inputs = (2 * keys + values) * (text["linear_conv_kernel_dim"] - 1)
    state = values * text["linear_key_head_dim"]
    wide = text.get("mamba_ssm_dtype") == "float32"
    per_layer = inputs * 2 + state * (4 if wide else 2)
    return full * 2 * text["num_key_value_heads"] * text["head_dim"], 0, linear * per_layer


def mamba(config: dict[str, Any]) -> tuple[int, int, int]:
    """Nemotron-H: the same. Layers are named by letters, or by words."""
    pattern = config.get("hybrid_override_pattern") or [
        {"attention": "*", "mamba": "M"}.get(kind, "-") for kind in config["layers_block_type"]
    ]
    attention, recurrent = pattern.count("*"), pattern.count("M")
    inner = config["mamba_num_heads"] * config["mamba_head_dim"]
    inputs = (inner + 2 * config["n_groups"] * config["ssm_state_size"]) * (config["conv_kernel"] - 1)
    state = inner * config["ssm_state_size"]
    wide = config["mamba_ssm_cache_dtype"] == "float32"
    per_layer = inputs * 2 + state * (4 if wide else 2)
    return attention * 2 * config["num_key_value_heads"] * config["head_dim"], 0, recurrent * per_layer


def windows(config: dict[str, Any]) -> tuple[int, int, int]:
    """gpt-oss and drafters of blocks: the same, without states."""
    full = config["layer_types"].count("full_attention")
    sliding = config["layer_types"].count("sliding_attention")
    numbers = 2 * config["num_key_value_heads"] * config["head_dim"]
    return full * numbers, sliding * numbers, 0


def two_shapes(config: dict[str, Any]) -> tuple[int, int, int]:
    """Gemma 4: the same; global layers have heads of their own, and vLLM keeps keys and values of all."""
    text = config["text_config"]
    full = text["layer_types"].count("full_attention")
    sliding = text["layer_types"].count("sliding_attention")
    wide = 2 * text["num_global_key_value_heads"] * text["global_head_dim"]
    narrow = 2 * text["num_key_value_heads"] * text["head_dim"]
    return full * wide, sliding * narrow, 0


KEPT = {
    "qwen3_next": delta_nets,
    "qwen3_5": delta_nets,
    "qwen3_5_moe": delta_nets,
    "nemotron_h": mamba,
    "gpt_oss": windows,
    "gemma4": two_shapes,
    "qwen3": windows,
}


def kept(sizes: ModelSizes, dtype: str) -> Cache:
    """What planning by the sizes alone says that sequences keep."""
    options = Options(cache_dtype=dtype)
    return cache.of(model.published(sizes.model, sizes).architecture, options)


@pytest.mark.parametrize(("dtype", "width"), [("auto", 2), ("fp8", 1)])
@by_config
def test_each_token_and_sequence_takes_what_the_config_says(
    sizes: ModelSizes, dtype: str, width: int
) -> None:
    config = config_of(sizes)
    numbers, sliding, states = KEPT[config["model_type"]](config)
    planned = kept(sizes, dtype)
    assert planned.token_bytes == numbers * width
    assert planned.window_bytes == sliding * width
    assert planned.state_bytes == states


@by_config
def test_a_sequence_of_full_context_takes_its_tokens_and_states_and_little_more(sizes: ModelSizes) -> None:
    config = config_of(sizes)
    numbers, sliding, states = KEPT[config["model_type"]](config)
    context = config.get("text_config", config)["max_position_embeddings"]
    assert sizes.max_tokens == context
    least = numbers * context + states
    planned = kept(sizes, "fp8").sequence_bytes(context)
    # Windows keep two batches of 2048 on top, and a prefix cache up to two more states.
    window = config.get("text_config", config).get("sliding_window") or 0
    most = least + sliding * (window + 2 * 2048 + 2 * 16) + 2 * states
    # Blocks are whole, and states are padded to them.
    assert least <= planned <= math.ceil(1.06 * most)
