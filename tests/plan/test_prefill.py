"""How fast prompts are predicted to be read, against what was published."""

import pytest

from dgx_vllm.plan import model, prefill_speed
from dgx_vllm.plan.model import Model
from dgx_vllm.profiles.sizes import model_sizes

#: Prompt tokens per second on one GB10, and the tokens of a chunk: NVIDIA's local-ai-inference-recipes,
#: 2026-08-31 and 2026-09-03, prompts of 8K tokens.
PUBLISHED = {
    "nvidia/Qwen3.5-122B-A10B-NVFP4": (2207, 8192),
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": (1979, 16384),
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4": (6990, 16384),
    "nvidia/Gemma-4-26B-A4B-NVFP4": (5115, 8192),
    "nvidia/Qwen3.8-27B-NVFP4": (2115, 16384),
}


def known(name: str) -> Model:
    sizes = model_sizes.by_model(name)
    assert sizes is not None
    return model.published(name, sizes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_prompts_are_met_within_a_fifth(name: str) -> None:
    understood = known(name)
    published, tokens = PUBLISHED[name]
    predicted = prefill_speed.chunk(understood.architecture, understood.weights, tokens).speed
    assert predicted == pytest.approx(published, rel=0.2)


def test_qwen3_next_reads_prompts_faster_in_chunks_of_8192_than_of_2048() -> None:
    """2048 is what vLLM 0.32 takes on a GB10 by itself, 8192 what the profile sets."""
    understood = known("nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4")
    before, after = (
        prefill_speed.chunk(understood.architecture, understood.weights, tokens).speed
        for tokens in (2048, 8192)
    )
    assert (round(before), round(after)) == (5639, 5704)


def test_a_chunk_of_one_token_takes_as_long_as_reading_its_weights() -> None:
    understood = known("openai/gpt-oss-20b")
    architecture = understood.architecture
    one = prefill_speed.chunk(architecture, understood.weights, 1, overhead=0.0)
    read = sum(
        weight.bytes * (4 / 32 if weight.part == "routed experts" else 1)
        for weight in understood.weights
        if weight.part not in ("embedding", "lm_head")
    )
    assert one.seconds == pytest.approx(read / 232e9)


def test_more_tokens_in_a_chunk_are_never_slower() -> None:
    for sizes in model_sizes.builtin():
        understood = model.published(sizes.model, sizes)
        if not understood.architecture.layers:
            continue
        speeds = [
            prefill_speed.chunk(understood.architecture, understood.weights, 2**power).speed
            for power in range(15)
        ]
        assert speeds == sorted(speeds)
