"""Bytes of weights against checkpoints: the demo's, and matrices laid out as each method lays them out."""

import math
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from shapes import QWEN3_NEXT_NVFP4, understood

from dgx_vllm.checkpoints import headers
from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.demo.paths import CHECKPOINT
from dgx_vllm.formats import tensor_roles
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import families, model, quantization, source, weights
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.weights import Loading
from dgx_vllm.profiles.sizes import model_sizes

_SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1, "I32": 4, "I64": 8}


def test_the_demo_is_planned_to_the_byte() -> None:
    """From its config as from its files, by part, precision and use."""
    found = source.find(str(CHECKPOINT), {})
    architecture = families.read("demo", found.config)
    method = quantization.read("demo", architecture.dtype, found.config, found.beside)
    stored = weights.stored(headers.read(CHECKPOINT))
    assert weights.planned(architecture, method) == stored
    with_safetensors = 0
    with safe_open(CHECKPOINT / "model.safetensors", framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            each = tensors.get_slice(name)
            with_safetensors += math.prod(each.get_shape()) * _SIZES[each.get_dtype()]
    assert sum(each.bytes for each in stored) == with_safetensors
    assert model.understand(found).exact


def test_hf_quant_config_stands_in() -> None:
    """Older ModelOpt checkpoints have no quantization_config."""
    found = source.find(str(CHECKPOINT), {})
    architecture = families.read("demo", found.config)
    bare = {name: value for name, value in found.config.items() if name != "quantization_config"}
    method = quantization.read("demo", architecture.dtype, bare, found.beside)
    assert weights.planned(architecture, method) == weights.stored(headers.read(CHECKPOINT))
    assert quantization.read("demo", "bfloat16", bare, None).name == "none"


def test_the_published_download_is_met(qwen3_next: Model) -> None:
    """47 GB; the MTP layer, which no server loads without drafts, comes on top."""
    assert qwen3_next.bytes(drafting=False) == pytest.approx(47e9, rel=0.01)
    assert qwen3_next.bytes(drafting=True) - qwen3_next.bytes(drafting=False) == pytest.approx(
        3.3e9, rel=0.01
    )


# One matrix of 256 outputs and 512 inputs in each method: its quantization_config, and its tensors.
_OUT, _IN = 256, 512
_GROUP = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
_METHODS: dict[str, tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...]]], str]] = {
    "none": ({}, {"weight": ("BF16", (_OUT, _IN))}, "BF16"),
    "modelopt nvfp4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": []},
        {
            "weight": ("U8", (_OUT, _IN // 2)),
            "weight_scale": ("F8_E4M3", (_OUT, _IN // 16)),
            "weight_scale_2": ("F32", ()),
            "input_scale": ("F32", ()),
        },
        "NVFP4",
    ),
    "modelopt fp8": (
        {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
        {"weight": ("F8_E4M3", (_OUT, _IN)), "weight_scale": ("F32", ()), "input_scale": ("F32", ())},
        "FP8",
    ),
    "modelopt mixed": (
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"model.layers.0.mlp.down_proj": {"quant_algo": "MXFP8", "group_size": 32}},
        },
        {"weight": ("F8_E4M3", (_OUT, _IN)), "weight_scale": ("U8", (_OUT, _IN // 32))},
        "MXFP8",
    ),
    "fp8 blocks": (
        {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
        {"weight": ("F8_E4M3", (_OUT, _IN)), "weight_scale_inv": ("F32", (_OUT // 128, _IN // 128))},
        "FP8",
    ),
    "compressed-tensors nvfp4": (
        {
            "quant_method": "compressed-tensors",
            "format": "nvfp4-pack-quantized",
            "ignore": ["re:.*lm_head"],
            "config_groups": {
                "group_0": {"targets": ["Linear"], "weights": _GROUP, "input_activations": {"num_bits": 4}}
            },
        },
        {
            "weight_packed": ("U8", (_OUT, _IN // 2)),
            "weight_scale": ("F8_E4M3", (_OUT, _IN // 16)),
            "weight_global_scale": ("F32", (1,)),
            "input_global_scale": ("F32", (1,)),
        },
        "NVFP4",
    ),
    "compressed-tensors fp8": (
        {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                }
            },
        },
        {"weight": ("F8_E4M3", (_OUT, _IN)), "weight_scale": ("BF16", (_OUT, 1))},
        "FP8",
    ),
    "compressed-tensors w4a16": (
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {
                "group_0": {
                    "targets": ["re:.*down_proj.*"],
                    "weights": {
                        **{"num_bits": 4, "type": "int", "strategy": "group"},
                        **{"group_size": 128, "symmetric": True},
                    },
                }
            },
        },
        {"weight_packed": ("I32", (_OUT, _IN // 8)), "weight_scale": ("BF16", (_OUT, _IN // 128))},
        "INT4",
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        {
            "qweight": ("I32", (_IN, _OUT // 8)),
            "qzeros": ("I32", (_IN // 128, _OUT // 8)),
            "scales": ("F16", (_IN // 128, _OUT)),
        },
        "INT4",
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False},
        {
            "qweight": ("I32", (_IN // 4, _OUT)),
            "qzeros": ("I32", (_IN // 128, _OUT // 4)),
            "scales": ("F16", (_IN // 128, _OUT)),
            "g_idx": ("I32", (_IN,)),
        },
        "INT8",
    ),
}


def held(module: str, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, Stored]:
    return {
        f"{module}.{name}": Stored(dtype, shape, (0, math.prod(shape) * _SIZES[dtype]))
        for name, (dtype, shape) in tensors.items()
    }


@pytest.mark.parametrize("method", _METHODS)
def test_each_method_takes_what_its_layout_takes(method: str) -> None:
    config, tensors, precision = _METHODS[method]
    module = "model.layers.0.mlp.down_proj"
    (found,) = weights.stored(held(module, tensors))
    assert (found.part, found.precision, found.parameters) == (Part.MLP, precision, _OUT * _IN)
    read = quantization.read("model", "bfloat16", {"quantization_config": config}, None)
    planned = read.of(module, linear=True)
    assert planned.name == precision
    assert planned.size((_OUT, _IN)) == found.bytes
    assert read.of("lm_head", linear=True).name == "BF16" or "lm_head" not in str(config)


def test_mxfp4_experts() -> None:
    """gpt-oss: blocks of 32 with a scale each; everything else stays as it is."""
    read = quantization.read(
        "model",
        "bfloat16",
        {
            "quantization_config": {
                "quant_method": "mxfp4",
                "modules_to_not_convert": [
                    "model.layers.*.self_attn",
                    "model.layers.*.mlp.router",
                    "lm_head",
                ],
            }
        },
        None,
    )
    module, shape = "model.layers.3.mlp.experts.gate_up_proj", (5760, 2880)
    packed = {
        f"{module}_blocks": Stored("U8", (32, 5760, 90, 16), (0, 32 * 5760 * 90 * 16)),
        f"{module}_scales": Stored("U8", (32, 5760, 90), (0, 32 * 5760 * 90)),
    }
    (found,) = weights.stored(packed)
    assert (found.part, found.precision, found.parameters) == (Part.EXPERTS, "MXFP4", 32 * 5760 * 2880)
    assert 32 * read.of(module, linear=True).size(shape) == found.bytes
    assert read.of("model.layers.3.self_attn.q_proj", linear=True).name == "BF16"
    assert read.of("model.layers.3.mlp.router", linear=True).name == "BF16"


@pytest.mark.parametrize(
    ("pattern", "module", "plain"),
    [
        ("lm_head", "lm_head", True),
        ("*linear_attn.in_proj*", "model.layers.5.linear_attn.in_proj_qkvz", True),
        ("model.layers.5.mlp.gate", "model.layers.5.mlp.gate", True),
        ("model.layers.5.mlp.gate", "model.layers.5.mlp.gate_proj", False),
        ("model.layers.5.mlp.up_proj", "model.layers.15.mlp.up_proj", False),
        # ModelOpt leaves every router as it is: Qwen3.5-122B's list does not have them.
        ("lm_head", "model.layers.15.mlp.gate", True),
        ("model.language_model.layers.5*", "model.language_model.layers.5.mlp.up_proj", True),
        ("language_model.model.layers.5.mlp", "model.language_model.layers.5.mlp.up_proj", True),
        ("mtp*", "mtp.layers.0.mlp.experts.0.up_proj", True),
        ("model.visual", "model.visual.blocks.0.attn.qkv", True),
    ],
)
def test_modules_of_the_exclude_list_are_in_bf16(pattern: str, module: str, plain: bool) -> None:
    config = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": [pattern]}
    read = quantization.read("model", "bfloat16", {"quantization_config": config}, None)
    assert (read.of(module, linear=True).name == "BF16") is plain
    assert read.of(module, linear=False).name == "BF16"


def test_the_caches_dtype_is_the_checkpoints() -> None:
    scheme = {"num_bits": 8, "type": "float", "dynamic": False}
    given = {**QWEN3_NEXT_NVFP4["quantization_config"], "kv_cache_scheme": scheme}
    assert understood(QWEN3_NEXT_NVFP4, quantization_config=given).cache_dtype == "fp8"
    assert understood(QWEN3_NEXT_NVFP4).cache_dtype is None


def test_an_unknown_architecture_goes_by_its_files(tmp_path: Path) -> None:
    """Every byte counts, by the tensors' names."""
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {
        "model.embed_tokens.weight": np.zeros((10, 8), np.float16),
        "model.layers.0.mlp.experts.0.up_proj.weight": np.zeros((4, 8), np.float16),
        "model.layers.0.mlp.experts.1.up_proj.weight": np.zeros((4, 8), np.float16),
        "model.layers.0.new_thing.weight": np.zeros((3, 8), np.float32),
        "lm_head.weight": np.zeros((10, 8), np.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"model_type": "brand_new", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,'
        '"vocab_size": 10, "num_experts": 2, "num_experts_per_tok": 1}'
    )
    found = model.understand(source.find(str(tmp_path), {}))
    assert found.exact
    assert not found.known
    assert {each.part: each.bytes for each in found.weights} == {
        Part.EMBEDDING: 160,
        Part.EXPERTS: 128,
        Part.OTHER: 96,
        Part.LM_HEAD: 160,
    }
    assert tensor_roles.of("model.layers.0.new_thing.weight") is Part.OTHER


@pytest.mark.parametrize(
    ("name", "resident"),
    [("openai/gpt-oss-120b", 70_756_592_256), ("openai/gpt-oss-20b", 14_679_227_520)],
)
def test_marlin_pads_mxfp4_experts(name: str, resident: int) -> None:
    """2880 becomes 3072 and 2944: 36 or 24 layers of 128 or 32 experts, counted by hand with their biases."""
    from vllm.model_executor.layers.fused_moe.oracle import mxfp4

    padded = mxfp4.mxfp4_round_up_hidden_size_and_intermediate_size(mxfp4.Mxfp4MoeBackend.MARLIN, 2880, 2880)
    assert padded == (3072, 2944)
    sizes = model_sizes.by_model(name)
    assert sizes is not None
    stored = model.published(name, sizes).weights
    held = weights.loaded(stored, Loading(hidden=2880))
    assert weights.total(held, drafting=False) == pytest.approx(resident, rel=1e-3)
    for loading in (
        Loading(hidden=2880, moe_backend="triton"),
        Loading(hidden=2880, platform="cpu"),
        Loading(),
    ):
        assert weights.total(weights.loaded(stored, loading), drafting=False) == sizes.bytes
