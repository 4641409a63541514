"""What a checkpoint's config makes vLLM build, against vLLM's own config classes and modules."""

import gc
from pathlib import Path
from typing import Any

import pytest
import vllm_modules
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import QWEN3_NEXT
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.registry import _LazyRegisteredModel, _ModelInfo

from dgx_vllm.formats import tensor_roles
from dgx_vllm.plan import built_precision, families, stored_precision
from dgx_vllm.plan.built_precision import HalfListedError, Kind, Layer
from helpers import vllm_decisions

DECODER, DRAFTER = "Qwen3NextForCausalLM", "Qwen3NextMTP"
SMALL = {**QWEN3_NEXT, "num_hidden_layers": 4, "num_experts": 2, "num_experts_per_tok": 1}

#: Modules of the checkpoint that vLLM may quantize.
MODULES = [
    tensor.module
    for tensor in families.read("model", SMALL).tensors
    if tensor.linear and stored_precision.is_compared(tensor.module)
]
LAYERS = [layer for layer, _ in stored_precision.layers(MODULES)]

#: What people write into lists: names in full or in part, of one layer or of many, with stars or without.
NAMES = st.sampled_from(
    [
        *(
            "lm_head",
            "mtp*",
            "mtp.layers.0*",
            "*in_proj*",
            "*q_proj",
            "*.linear_attn.*",
            "*mlp*",
            "*experts*",
        ),
        *("model.layers.1*", "model.layers.*.self_attn*", "model.layers.*.mlp.shared_expert*", "*_proj"),
        *(
            "model.layers.0.linear_attn",
            "model.layers.3.self_attn",
            "self_attn",
            "model.layers.2.mlp.experts",
        ),
        *("model.layers.3.self_attn.qkv_proj", "model.layers.0.mlp.shared_expert.gate_up_proj", "experts"),
        *(
            "model.layers.?.mlp.shared_expert.[gu]*_proj",
            "language_model.model.layers.0.linear_attn.out_proj",
        ),
        *(f"model.layers.3.self_attn.{name}_proj" for name in "qkvo"),
        *MODULES,
    ]
)
PARTS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "o_proj",
    "out_proj",
    "in_proj_qkvz",
)


def ours(fields: dict[str, Any], layer: Layer, model_type: str = "qwen3_next") -> str | None:
    reading = built_precision.read({"quantization_config": fields}, None, model_type)
    assert reading is not None
    return reading.of(layer)


def decided(answer: Any, *arguments: Any) -> str | None:
    """A decision, `refused` where there is none."""
    try:
        return answer(*arguments)
    except (HalfListedError, ValueError):
        return "refused"


def check(fields: dict[str, Any]) -> None:
    """Ours against vLLM's, of every layer; the head apart, which Qwen3-Next builds without a config."""
    of_model = vllm_decisions.config_of(fields, DECODER)
    of_drafts = vllm_decisions.config_of(fields, DRAFTER)
    for layer in LAYERS:
        theirs = decided(vllm_decisions.precision, of_drafts if layer.draft else of_model, layer)
        # Of a family whose head takes the config.
        model_type = "qwen3_5" if layer.kind is Kind.HEAD else "qwen3_next"
        assert decided(ours, fields, layer, model_type) == theirs, layer


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, max_size=8), st.sampled_from(["NVFP4", "FP8", "MXFP8", "W4A16_NVFP4"]), st.booleans())
def test_modelopts_list_leaves_the_layers_that_vllm_leaves(
    names: list[str], algorithm: str, nested: bool
) -> None:
    inner = {"quant_algo": algorithm, "exclude_modules" if nested else "ignore": names}
    inner |= {"group_size": 16, "kv_cache_quant_algo": None}
    check({"quant_method": "modelopt", **({"quantization": inner} if nested else inner)})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(NAMES, max_size=3),
    st.dictionaries(
        st.sampled_from([*MODULES, *(layer.name for layer in LAYERS), "mtp.layers.0.mlp.experts"]),
        st.sampled_from(["NVFP4", "FP8", "MXFP8", "W4A16_NVFP4", "FP8_PB_WO", "FP8_BLOCK_SCALES", "fp8"]),
        min_size=1,
        max_size=20,
    ),
)
def test_modelopts_mixed_list_gives_each_layer_what_vllm_gives_it(
    names: list[str], assigned: dict[str, str]
) -> None:
    layers = {name: {"quant_algo": algorithm} for name, algorithm in assigned.items()}
    fields = {"quant_algo": "MIXED_PRECISION", "ignore": names, "quantized_layers": layers}
    check({"quant_method": "modelopt", **fields})


NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
TARGETS = st.sampled_from(
    [
        *(
            "re:.*q_proj$",
            "re:.*self_attn.*",
            "re:.*(q|k|v)_proj$",
            "re:.*gate_up_proj",
            "re:model.layers.0.*",
        ),
        *(
            "re:.*experts.*",
            "re:.*shared_expert.*",
            "re:mtp.*",
            "re:.*mlp.experts.0.gate_proj$",
            "re:.*lm_head",
        ),
        *MODULES,
        *(layer.name for layer in LAYERS),
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TARGETS, max_size=6),
    st.lists(TARGETS | st.just("Linear"), min_size=1, max_size=4),
    st.lists(TARGETS, min_size=1, max_size=3),
)
def test_compressed_tensors_gives_each_layer_what_vllm_gives_it(
    ignored: list[str], four: list[str], eight: list[str]
) -> None:
    groups = {
        "a": {"targets": four, "weights": NVFP4, "input_activations": None},
        "b": {"targets": eight, "weights": FP8, "input_activations": None},
    }
    fields = {"quant_method": "compressed-tensors", "format": "mixed-precision", "ignore": ignored}
    check({**fields, "config_groups": groups})


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, max_size=8), st.sampled_from(["ignored_layers", "modules_to_not_convert"]))
def test_fp8s_list_leaves_the_layers_that_vllm_leaves(names: list[str], key: str) -> None:
    check({"quant_method": "fp8", "activation_scheme": "dynamic", key: names})


@pytest.fixture
def _in_this_process(process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM looks at each class in a process of its own, 10 seconds each, to keep CUDA out of this one."""
    monkeypatch.setattr(
        _LazyRegisteredModel,
        "inspect_model_cls",
        lambda self: _ModelInfo.from_model_cls(self.load_model_cls()),
    )


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize(
    "architecture",
    [
        *("Qwen3NextForCausalLM", "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
        *("Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"),
        *("MistralForCausalLM", "NemotronHForCausalLM"),
    ],
)
def test_every_layer_is_called_as_vllm_calls_it(architecture: str, tmp_path: Path) -> None:
    fields, model, _ = vllm_modules.build(architecture, tmp_path)
    theirs = {
        getattr(module, "layer_name", name) if isinstance(module, RoutedExperts) else name
        for name, module in model.named_modules()
        if isinstance(module, LinearBase | RoutedExperts | ParallelLMHead)
    }
    planned = [tensor.module for tensor in families.read("model", fields).tensors if tensor.linear]
    modules = [
        name
        for name in planned
        if stored_precision.is_compared(name) and not tensor_roles.is_draft(f"{name}.weight")
    ]
    assert modules
    called = {layer.name for layer, _ in stored_precision.layers(modules)}
    assert called <= theirs
    assert getattr(type(model), "hf_to_vllm_mapper", None) is not None
    del model
    gc.collect()
