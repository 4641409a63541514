"""Blocks, tables and bytes of the KV cache against vLLM's own functions."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.plan import cache
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent
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


def by_vllm(
    shape: Architecture, options: Options, context: int, block: int, drafter: Sequence[Attention] = ()
) -> tuple[int, int, int]:
    """Bytes of a block, tables, and bytes of one sequence of full length, by vLLM 0.32.

    Args:
        shape: the model.
        options: the settings.
        context: tokens in the sequence.
        block: tokens in a block of the model's attention.
        drafter: the layers of what drafts.
    """
    import torch
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec, MambaSpec, SlidingWindowSpec
    from vllm.v1.kv_cache_layout import KVCacheLayout

    dtype = torch.uint8 if options.cache_dtype.startswith("fp8") else torch.bfloat16
    specs: dict[str, KVCacheSpec] = {}
    page = 0
    for kind in [*shape.attention, *drafter]:
        own = kind in shape.attention
        for _ in range(kind.layers):
            fields: dict[str, Any] = {
                "block_size": min(block, options.window_block or block) if kind.window else block,
                "num_kv_heads": kind.heads,
                "head_size": kind.head_size,
                "dtype": dtype,
            }
            spec = (
                SlidingWindowSpec(**fields, sliding_window=kind.window, dcp_sharded=False)
                if kind.window
                else FullAttentionSpec(**fields)
            )
            page = spec.page_size_bytes if own else page
            specs[f"layers.{len(specs)}"] = spec
    mode = "align" if options.prefix_caching else "none"
    if shape.recurrent:
        heads, values, keys = shape.recurrent.state
        shapes = MambaStateShapeCalculator.gated_delta_net_state_shape(
            1, (shape.recurrent.channels - heads * values) // 2 // keys, heads, keys, values,
            shape.recurrent.kernel, options.drafts,
        )  # fmt: skip
        state = torch.float32 if shape.recurrent.dtype == "float32" else torch.bfloat16
        for _ in range(shape.recurrent.layers):
            specs[f"layers.{len(specs)}"] = MambaSpec(
                block_size=block,
                shapes=shapes,
                dtypes=(torch.bfloat16, state),
                page_size_padded=page,
                mamba_cache_mode=mode,
                num_speculative_blocks=options.drafts,
            )
    layout = KVCacheLayout.LBNHC
    config: Any = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=context, hf_config=SimpleNamespace(model_type="")),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        cache_config=SimpleNamespace(
            mamba_cache_mode=mode,
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
            get_resolved_kv_cache_layout=lambda: layout,
        ),
        max_in_flight_tokens=2 * options.batched_tokens,
    )
    groups = kv_cache_utils.get_kv_cache_groups(config, specs)
    one = kv_cache_utils._get_kv_cache_bytes_per_block(groups, layout)
    return one, len(groups), kv_cache_utils._max_memory_usage_bytes_from_groups(config, groups)


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
    shape = architecture(name)
    drafter = [shape.draft] if drafts and shape.draft else []
    for context in (1, 1000, 4096, 65536, 131072):
        found = kept.block_bytes, len(kept.groups), kept.sequence_bytes(context)
        assert found == by_vllm(shape, options, context, block, drafter)


#: Qwen3.8-27B's and Qwen3.5-122B's layers: full attention, and GDN with states in float32.
_DENSE_HYBRID = replace(
    architecture("qwen3_next"),
    attention=(Attention(16, 4, 256),),
    recurrent=Recurrent(48, 10240, 4, (48, 128, 128), "float32"),
)
_SPARSE_HYBRID = replace(
    _DENSE_HYBRID,
    attention=(Attention(12, 2, 256),),
    recurrent=Recurrent(36, 12288, 4, (64, 128, 128), "float32"),
)
_SHAPES = {
    "dense hybrid": _DENSE_HYBRID,
    "sparse hybrid": _SPARSE_HYBRID,
    "gpt_oss": architecture("gpt_oss"),
    "llama": architecture("llama"),
}
_DRAFTERS = {
    "five full layers": (Attention(5, 8, 128),),
    "five sliding layers": (Attention(5, 8, 128, 2048),),
    "five sliding and a full layer": (Attention(1, 8, 128), Attention(5, 8, 128, 4096)),
    "EAGLE-3 as wide as gpt-oss": (Attention(1, 8, 64),),
    "eight full layers as wide as gpt-oss": (Attention(8, 8, 64),),
    "EAGLE-3 with wide heads": (Attention(1, 4, 256),),
    "narrow sliding layers": (Attention(6, 2, 128, 1024),),
    "nothing that is kept": (),
}


def first_block(shape: Architecture, options: Options) -> int:
    """Tokens in a block of the model's own attention, by vLLM's rule: 16, or as many as fill a state."""
    if shape.recurrent is None:
        return 16
    state = shape.recurrent.channels * (shape.recurrent.kernel - 1 + options.drafts) * 2
    state += 4 * math.prod(shape.recurrent.state)
    kind = shape.attention[0]
    token = 2 * kind.heads * kind.head_size * (1 if options.cache_dtype == "fp8" else 2)
    return 16 * math.ceil(state / (16 * token))


@pytest.mark.parametrize("name", _SHAPES)
@pytest.mark.parametrize("drafter", _DRAFTERS)
@pytest.mark.parametrize("cache_dtype", ["auto", "fp8"])
@pytest.mark.parametrize(
    ("drafts", "prefix_caching", "window_block"), [(7, True, None), (7, True, 64), (3, False, None)]
)
def test_vllm_agrees_on_the_cache_of_a_model_and_its_drafter(
    name: str, drafter: str, cache_dtype: str, drafts: int, prefix_caching: bool, window_block: int | None
) -> None:
    options = Options(cache_dtype, "auto", drafts, prefix_caching, window_block=window_block)
    shape, layers = _SHAPES[name], _DRAFTERS[drafter]
    kept = cache.of(shape, options, layers)
    for context in (1, 1000, 131072):
        planned = kept.block_bytes, len(kept.groups), kept.sequence_bytes(context)
        assert planned == by_vllm(shape, options, context, first_block(shape, options), layers)


def test_a_drafter_of_sliding_layers_costs_what_was_counted_in_vllm() -> None:
    """Qwen3.8-27B with DFlash2: 11.6 GiB a sequence of 131072 tokens instead of 8.3, by hand 731 blocks of
    five pages."""
    options = Options(drafts=7)
    kept = cache.of(_DENSE_HYBRID, options, _DRAFTERS["five sliding layers"])
    assert kept.block_bytes == 5 * 3_407_872
    assert kept.blocks(131072) == 4 * 158 + 9 + 10 * 9
    assert cache.of(_DENSE_HYBRID, Options()).sequence_bytes(131072) == 174 * 51_380_224


@pytest.mark.parametrize(("family", "caching", "states"), [("nemotron_h", True, 5), ("nemotron_h", False, 3)])
def test_mamba_2_keeps_one_state_more_for_the_prefix_cache(family: str, caching: bool, states: int) -> None:
    """MambaMixer2's spec has a checkpoint block, which GDN's has not."""
    shape = replace(_DENSE_HYBRID, family=family)
    kept = cache.of(shape, Options(drafts=2, prefix_caching=caching), ())
    assert {group.blocks for group in kept.groups if group.tokens is None} == {states}
    alone = cache.of(_DENSE_HYBRID, Options(drafts=2, prefix_caching=caching), ())
    assert {group.blocks for group in alone.groups if group.tokens is None} == {states - caching}


def test_a_drafter_s_layers_take_nothing_without_drafts() -> None:
    for shape in _SHAPES.values():
        assert cache.of(shape, Options(), _DRAFTERS["five full layers"]) == cache.of(shape, Options(), ())


@pytest.mark.parametrize(
    ("cache_dtype", "backend", "block"),
    [
        ("auto", None, None),
        ("fp8", None, 64),
        ("fp8", "TRITON_ATTN", None),
        ("auto", "flashinfer", 64),
        ("fp8_e4m3", "auto", 64),
    ],
)
def test_the_backend_decides_how_large_a_window_s_block_is(
    cache_dtype: str, backend: str | None, block: int | None
) -> None:
    assert cache.window_block(cache_dtype, backend) == block


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
