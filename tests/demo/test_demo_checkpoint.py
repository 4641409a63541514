"""The committed checkpoint's layout, read byte by byte: Qwen3-Next's names, dtypes and shapes in NVFP4."""

import json
import math
import struct
from typing import Any

import pytest

from dgx_vllm.demo import CHECKPOINT

BITS = {"U8": 8, "F8_E4M3": 8, "BF16": 16, "F32": 32}
CONFIG: dict[str, Any] = json.loads((CHECKPOINT / "config.json").read_text())
HIDDEN, EXPERTS = CONFIG["hidden_size"], CONFIG["num_experts"]
EXPERT, SHARED = CONFIG["moe_intermediate_size"], CONFIG["shared_expert_intermediate_size"]
HEAD, HEADS, KV_HEADS = CONFIG["head_dim"], CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
KEYS = CONFIG["linear_num_key_heads"] * CONFIG["linear_key_head_dim"]
VALUES = CONFIG["linear_num_value_heads"] * CONFIG["linear_value_head_dim"]
FULL_ATTENTION = CONFIG["full_attention_interval"]


def header() -> dict[str, dict[str, Any]]:
    """The safetensors header: name -> dtype, shape, data_offsets."""
    with (CHECKPOINT / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries: dict[str, dict[str, Any]] = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    return entries


def moe(prefix: str) -> dict[str, tuple[int, ...]]:
    """Matrices of a mixture-of-experts block."""
    out: dict[str, tuple[int, ...]] = {
        f"{prefix}.gate": (EXPERTS, HIDDEN),
        f"{prefix}.shared_expert_gate": (1, HIDDEN),
    }
    blocks = [(f"{prefix}.experts.{e}", EXPERT) for e in range(EXPERTS)] + [
        (f"{prefix}.shared_expert", SHARED)
    ]
    for block, width in blocks:
        out |= {f"{block}.gate_proj": (width, HIDDEN), f"{block}.up_proj": (width, HIDDEN)}
        out[f"{block}.down_proj"] = (HIDDEN, width)
    return out


def attention(prefix: str) -> dict[str, tuple[int, ...]]:
    """Matrices of gated full attention: q_proj holds query and gate."""
    return {
        f"{prefix}.q_proj": (2 * HEADS * HEAD, HIDDEN),
        f"{prefix}.k_proj": (KV_HEADS * HEAD, HIDDEN),
        f"{prefix}.v_proj": (KV_HEADS * HEAD, HIDDEN),
        f"{prefix}.o_proj": (HIDDEN, HEADS * HEAD),
    }


def delta_net(prefix: str) -> dict[str, tuple[int, ...]]:
    """Matrices of a Gated DeltaNet layer."""
    return {
        f"{prefix}.in_proj_qkvz": (2 * KEYS + 2 * VALUES, HIDDEN),
        f"{prefix}.in_proj_ba": (2 * CONFIG["linear_num_value_heads"], HIDDEN),
        f"{prefix}.conv1d": (2 * KEYS + VALUES, 1, CONFIG["linear_conv_kernel_dim"]),
        f"{prefix}.out_proj": (HIDDEN, VALUES),
    }


def matrices() -> dict[str, tuple[int, ...]]:
    """Every module with a matrix, by its full name, with its unpacked shape."""
    out: dict[str, tuple[int, ...]] = {"mtp.fc": (HIDDEN, 2 * HIDDEN)}
    out |= {name: (CONFIG["vocab_size"], HIDDEN) for name in ("model.embed_tokens", "lm_head")}
    for layer in range(CONFIG["num_hidden_layers"]):
        full = (layer + 1) % FULL_ATTENTION == 0
        mixer = (
            attention(f"model.layers.{layer}.self_attn")
            if full
            else delta_net(f"model.layers.{layer}.linear_attn")
        )
        out |= mixer | moe(f"model.layers.{layer}.mlp")
    return out | attention("mtp.layers.0.self_attn") | moe("mtp.layers.0.mlp")


def vectors() -> dict[str, tuple[int, ...]]:
    """Every norm and DeltaNet parameter."""
    out = dict.fromkeys(
        (
            "model.norm.weight",
            "mtp.norm.weight",
            "mtp.pre_fc_norm_hidden.weight",
            "mtp.pre_fc_norm_embedding.weight",
        ),
        (HIDDEN,),
    )
    layers = {f"model.layers.{n}": (n + 1) % FULL_ATTENTION == 0 for n in range(CONFIG["num_hidden_layers"])}
    for layer, full in {**layers, "mtp.layers.0": True}.items():
        out |= {f"{layer}.{n}.weight": (HIDDEN,) for n in ("input_layernorm", "post_attention_layernorm")}
        if full:
            out |= {f"{layer}.self_attn.{n}.weight": (HEAD,) for n in ("q_norm", "k_norm")}
        else:
            out |= {
                f"{layer}.linear_attn.{n}": (CONFIG["linear_num_value_heads"],) for n in ("A_log", "dt_bias")
            }
            out[f"{layer}.linear_attn.norm.weight"] = (CONFIG["linear_value_head_dim"],)
    return out


def is_quantized(module: str) -> bool:
    """Experts and output projections, outside the MTP layer."""
    return not module.startswith("mtp.") and (
        ".experts." in module or ".shared_expert." in module or module.endswith((".o_proj", ".out_proj"))
    )


def expected() -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensor name -> dtype and shape."""
    out: dict[str, tuple[str, tuple[int, ...]]] = {name: ("BF16", shape) for name, shape in vectors().items()}
    for module, shape in matrices().items():
        if is_quantized(module):
            rows, columns = shape
            out[f"{module}.weight"] = ("U8", (rows, columns // 2))
            out[f"{module}.weight_scale"] = ("F8_E4M3", (rows, columns // 16))
            out[f"{module}.weight_scale_2"] = out[f"{module}.input_scale"] = ("F32", ())
        else:
            out[f"{module}.weight"] = ("BF16", shape)
    return out


def test_names_dtypes_and_shapes() -> None:
    assert {name: (e["dtype"], tuple(e["shape"])) for name, e in header().items()} == expected()


def test_the_file_holds_exactly_its_tensors() -> None:
    entries = header()
    sizes = {n: math.prod(e["shape"]) * BITS[e["dtype"]] // 8 for n, e in entries.items()}
    assert {n: e["data_offsets"][1] - e["data_offsets"][0] for n, e in entries.items()} == sizes
    path = CHECKPOINT / "model.safetensors"
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert path.stat().st_size == 8 + length + sum(sizes.values())


def test_the_checkpoint_is_small_enough_to_commit() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.rglob("*")) <= 4 * 2**20


def test_every_unquantized_layer_is_named_in_full() -> None:
    ignore = CONFIG["quantization_config"]["ignore"]
    linear = {module for module in matrices() if module != "model.embed_tokens"}
    assert set(ignore) == {module for module in linear if not is_quantized(module)}
    assert not [name for name in ignore if set(name) & set("*?[")]
    older = json.loads((CHECKPOINT / "hf_quant_config.json").read_text())["quantization"]
    assert older["exclude_modules"] == ignore


def test_the_architecture_is_qwen3_next() -> None:
    assert CONFIG["architectures"] == ["Qwen3NextForCausalLM"]
    assert CONFIG["model_type"] == "qwen3_next"


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
)
def test_what_a_server_needs_is_there(name: str) -> None:
    assert (CHECKPOINT / name).stat().st_size > 0
