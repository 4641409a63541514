"""The planner against vLLM's own modules, for every architecture of its registry that can be built here."""

import gc
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_modules
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.models.registry import _LazyRegisteredModel, _ModelInfo
from vllm.v1.kv_cache_interface import (
    AttentionSpec,
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
)
from vllm_modules import SERVED, UnbuiltError

from dgx_vllm.formats import tensor_roles
from dgx_vllm.plan import as_json, cache, families, model, outlook, source, weights
from dgx_vllm.plan.architecture import Unknown
from dgx_vllm.plan.cache import Options
from dgx_vllm.plan.outlook import PlanRequest
from dgx_vllm.plan.weights import Loading
from dgx_vllm.util.errors import UserError
from helpers.header_checkpoints import write

#: Architectures that cannot be built here, by the reason.
UNBUILT: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "unbuilt.toml").read_text())
_UNBUILT = {name for names in UNBUILT.values() for name in names}

_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}


@dataclass(frozen=True)
class Built:
    """What vLLM makes of an architecture.

    Args:
        config: what config.json holds.
        tensors: the parameters' dtypes and shapes.
        parameters, bytes: of all of them.
        experts: the most routed experts of a layer, and how many a token uses.
        kept: bytes of one token, all layers that keep tokens.
        full: of which layers without a window.
        states: layers that keep a state or another sequence's keys.
    """

    config: dict[str, Any]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    parameters: int
    bytes: int
    experts: tuple[int, int]
    kept: int
    full: int
    states: int


@pytest.fixture(autouse=True)
def _in_this_process(process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM looks at each class in a process of its own, 10 seconds each, to keep CUDA out of this one."""
    monkeypatch.setattr(
        _LazyRegisteredModel,
        "inspect_model_cls",
        lambda self: _ModelInfo.from_model_cls(self.load_model_cls()),
    )


@pytest.fixture
def built(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Built]:
    fields, module, config = vllm_modules.build(request.param, tmp_path)
    kept, full, states = 0, 0, 0
    for layer in config.compilation_config.static_forward_context.values():
        spec = layer.get_kv_cache_spec(config) if isinstance(layer, AttentionLayerBase) else None
        if isinstance(spec, AttentionSpec) and not isinstance(spec, CrossAttentionSpec):
            token = spec.page_size_bytes // spec.block_size
            kept += token
            full += token if isinstance(spec, FullAttentionSpec | ChunkedLocalAttentionSpec) else 0
        elif spec is not None:
            states += 1
    named = dict(module.named_parameters())
    found: Counter[tuple[int, int]] = Counter(
        (each.moe_config.num_logical_experts, each.moe_config.experts_per_token)
        for each in module.modules()
        if isinstance(each, RoutedExperts)
    )
    yield Built(
        config=fields,
        tensors={name: (_NAMES[each.dtype], tuple(each.shape)) for name, each in named.items()},
        parameters=sum(each.numel() for each in named.values()),
        bytes=sum(each.numel() * each.element_size() for each in named.values()),
        experts=max(found, default=(0, 0)),
        kept=kept,
        full=full,
        states=states,
    )
    del module, named
    gc.collect()


@pytest.mark.parametrize("built", sorted(SERVED - _UNBUILT), indirect=True)
def test_the_planner_counts_what_vllm_builds(built: Built, tmp_path: Path) -> None:
    found = model.understand(source.find(str(write(tmp_path / "ck", built.config, built.tensors)), {}))
    assert sum(each.parameters for each in found.weights) == built.parameters
    assert not [each for each in found.weights if each.draft]
    held = weights.loaded(found.weights, Loading(dtype=found.architecture.dtype))
    # Some models keep a router or a score in float32 that others do not; of small ones that is a share.
    assert built.bytes * 0.95 <= weights.total(held, drafting=False) <= built.bytes

    shape = found.architecture
    if Unknown.EXPERTS not in shape.unknown and built.experts[0]:
        assert (shape.experts, shape.experts_per_token) == built.experts
    if Unknown.CACHE not in shape.unknown:
        kept = cache.of(shape, Options(prefix_caching=False))
        assert kept.token_bytes >= built.full
        assert kept.token_bytes + kept.window_bytes >= built.kept
        assert bool(kept.state_bytes) == bool(built.states)
        if found.known:
            assert (kept.token_bytes, kept.token_bytes + kept.window_bytes) == (built.full, built.kept)
    assert as_json.document(outlook.of(found, None, PlanRequest(10**12, "given"))).exact

    if found.known:
        planned = families.read("model", built.config).tensors
        assert (
            sum(each.parameters for each in planned if not tensor_roles.is_draft(each.name))
            == built.parameters
        )
    else:
        with pytest.raises(UserError, match=r"config\.json"):
            model.understand(source.Source("model", built.config))


@pytest.mark.parametrize("architecture", sorted(_UNBUILT))
def test_what_is_listed_as_unbuilt_cannot_be_built(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(UnbuiltError):
        vllm_modules.build(architecture, tmp_path)


def test_the_list_of_what_cannot_be_built_is_of_vllms_registry() -> None:
    assert _UNBUILT <= SERVED
    assert len(_UNBUILT) == sum(map(len, UNBUILT.values()))
