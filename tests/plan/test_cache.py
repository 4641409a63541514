"""Blocks, tables and bytes of the KV cache against vLLM's own functions."""

import functools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.plan import cache
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.cache import Cache, Options

_GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "hidden_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "intermediate_size": 2880,
    "sliding_window": 128,
    "max_position_embeddings": 131072,
}
_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
}
_MODELS = {"qwen3_next": QWEN3_NEXT_NVFP4, "gpt_oss": _GPT_OSS, "llama": _LLAMA}


@functools.cache
def architecture(name: str) -> Architecture:
    return understood(_MODELS[name]).architecture


def by_vllm(shape: Architecture, options: Options, context: int, block: int) -> tuple[int, int, int]:
    """Bytes of a block, tables, and bytes of one sequence of full length, by vLLM 0.32."""
    import torch
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec, MambaSpec, SlidingWindowSpec

    dtype = torch.uint8 if options.cache_dtype.startswith("fp8") else torch.bfloat16
    specs: dict[str, KVCacheSpec] = {}
    draft = shape.draft if options.drafts else None
    page = 0
    for kind in [*shape.attention, *([draft] if draft else [])]:
        for _ in range(kind.layers):
            fields: dict[str, Any] = {
                "block_size": block,
                "num_kv_heads": kind.heads,
                "head_size": kind.head_size,
                "dtype": dtype,
            }
            spec = (
                SlidingWindowSpec(**fields, sliding_window=kind.window, dcp_sharded=False)
                if kind.window
                else FullAttentionSpec(**fields)
            )
            page = spec.page_size_bytes
            specs[f"layers.{len(specs)}"] = spec
    if shape.recurrent:
        heads, values, keys = shape.recurrent.state
        shapes = MambaStateShapeCalculator.gated_delta_net_state_shape(
            1, (shape.recurrent.channels - heads * values) // 2 // keys, heads, keys, values,
            shape.recurrent.kernel, options.drafts,
        )  # fmt: skip
        for _ in range(shape.recurrent.layers):
            specs[f"layers.{len(specs)}"] = MambaSpec(
                block_size=block,
                shapes=shapes,
                dtypes=(torch.bfloat16, torch.bfloat16),
                page_size_padded=page,
                mamba_cache_mode="align" if options.prefix_caching else "none",
                num_speculative_blocks=options.drafts,
            )
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=context),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        cache_config=SimpleNamespace(
            mamba_cache_mode="align" if options.prefix_caching else "none", num_gpu_blocks_override=None
        ),
        max_in_flight_tokens=2 * options.batched_tokens,
    )
    groups = (
        kv_cache_utils._get_kv_cache_groups_uniform_page_size(specs)
        if len(set(specs.values())) > 1
        else kv_cache_utils._get_kv_cache_groups_uniform_spec(specs)
    )
    layers = max(len(group.layer_names) for group in groups)
    needed = sum(
        -(-group.kv_cache_spec.max_memory_usage_bytes(config) // group.kv_cache_spec.page_size_bytes)
        for group in groups
    )
    return page * layers, len(groups), page * layers * needed


@pytest.mark.parametrize(
    ("name", "drafts"), [("qwen3_next", 0), ("qwen3_next", 2), ("gpt_oss", 0), ("llama", 0)]
)
@pytest.mark.parametrize("cache_dtype", ["auto", "fp8"])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_vllm_agrees_on_the_bytes_of_a_cache(
    name: str, drafts: int, cache_dtype: str, prefix_caching: bool
) -> None:
    options = Options(cache_dtype, drafts=drafts, prefix_caching=prefix_caching)
    kept = cache.of(architecture(name), options)
    block = next(group.tokens for group in kept.groups if group.tokens)
    for context in (1, 1000, 4096, 65536, 131072):
        found = kept.block_bytes, len(kept.groups), kept.sequence_bytes(context)
        assert found == by_vllm(architecture(name), options, context, block)


def test_hybrid_blocks_are_as_large_as_a_state() -> None:
    """platform/interface.py's rule by hand: 3 inputs of 8192 channels and a state of 32 x 128 x 128, in BF16,
    fill 67 blocks of 16 tokens with 2 heads of 256 for key and value in FP8.
    """
    kept = cache.of(architecture("qwen3_next"), Options(cache_dtype="fp8"))
    state = 3 * 8192 * 2 + 32 * 128 * 128 * 2
    assert {group.tokens for group in kept.groups} == {None, 16 * 67}
    assert 16 * 66 * 1024 < state <= kept.block_bytes / 12 == 16 * 67 * 1024
    assert kept.token_bytes == 12 * 2 * 2 * 256
    assert kept.state_bytes == 36 * state


@st.composite
def caches(draw: st.DrawFn) -> Cache:
    name = draw(st.sampled_from(sorted(_MODELS)))
    drafts = draw(st.integers(0, 4)) if architecture(name).draft else 0
    return cache.of(
        architecture(name),
        Options(
            draw(st.sampled_from(["auto", "fp8", "nvfp4", "bfloat16"])),
            draw(st.sampled_from(["auto", "float32"])),
            drafts,
            draw(st.booleans()),
            platform=draw(st.sampled_from(["cuda", "cpu"])),
        ),
    )


@given(
    kept=caches(),
    context=st.integers(1, 300_000),
    budget=st.integers(0, 2 * 10**11),
    more=st.integers(0, 10**9),
)
def test_fits_are_monotone(kept: Cache, context: int, budget: int, more: int) -> None:
    here = kept.sequences(budget, context)
    assert kept.sequences(budget + more, context) >= here
    assert kept.sequences(budget, context + more % 1000) <= here
    assert kept.sequence_bytes(context) <= kept.sequence_bytes(context + 1)
    assert here == 0 or kept.needed(context, here) <= budget
    assert kept.needed(context, here + 1) > budget


@given(kept=caches(), budget=st.integers(0, 2 * 10**11))
def test_the_longest_context_is_the_longest(kept: Cache, budget: int) -> None:
    longest = kept.longest(budget)
    assert longest == 0 or kept.sequences(budget, longest)
    assert longest == 2**24 or not kept.sequences(budget, longest + 1)


@given(kept=caches(), context=st.integers(1, 300_000), sequences=st.integers(1, 100))
def test_what_is_needed_is_enough(kept: Cache, context: int, sequences: int) -> None:
    assert kept.sequences(kept.needed(context, sequences), context) == sequences
