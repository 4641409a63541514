"""Nemotron-H: Mamba2, experts without a gate, and attention without positions; MTP.

Two layouts of ModelOpt's mixed precision:

- that of nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4: weights alone in NVFP4 for experts and the
  output head, FP8 for Mamba2's projections;
- that of nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4: experts on a narrower (latent) width in NVFP4 with
  scales for activations, FP8 for some projections.

vLLM's CPU backend refuses experts without a gate. `experts=False` puts dense layers in their places, which
Nemotron-H has too, and leaves them out of the draft. What remains is all that has a state.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from helpers.tiny.drawing import VOCABULARY, Drawing, Format

HIDDEN, LATENT = 128, 64
HEADS, KV_HEADS, HEAD = 4, 2, 32
MAMBA_HEADS, MAMBA_HEAD, STATE, GROUPS, CONVOLUTION = 4, 64, 64, 2, 4
EXPERTS, TOP_K, EXPERT, SHARED = 8, 2, 64, 128
_INNER = MAMBA_HEADS * MAMBA_HEAD
_CONVOLVED = _INNER + 2 * GROUPS * STATE
_KINDS = ("mamba", "moe", "attention", "moe", "mamba", "moe")
_LETTERS = {"mamba": "M", "moe": "E", "attention": "*", "mlp": "-"}


@dataclass(frozen=True)
class _Layout:
    """What the two checkpoints store how."""

    latent: bool
    experts: Format
    shared: Format
    head: Format
    #: Whether it lists what is not quantized.
    ignores: bool


_ALONE: Format = "nvfp4_weights_alone"
_LIGHTNING = _Layout(latent=False, experts=_ALONE, shared=_ALONE, head=_ALONE, ignores=True)
_SUPER = _Layout(latent=True, experts="nvfp4", shared="fp8", head="bf16", ignores=False)
_ALGORITHMS: dict[Format, dict[str, Any]] = {
    "nvfp4": {"quant_algo": "NVFP4", "group_size": 16},
    "nvfp4_weights_alone": {"quant_algo": "W4A16_NVFP4", "group_size": 16},
    "fp8": {"quant_algo": "FP8"},
}


def write_lightning(directory: Path, experts: bool = True, seed: int = 0) -> Path:
    """The layout of Nemotron-3.5-Lightning, with its tokenizer. Returns the directory."""
    fields = {
        "layers_block_type": _kinds(experts),
        "moe_latent_size": None,
        "mtp_layers_block_type": ["attention", "moe"] if experts else ["attention"],
        "routed_scaling_factor": 2.5,
    }
    return _write(directory, _LIGHTNING, fields, experts, seed)


def write_super(directory: Path, experts: bool = True, seed: int = 0) -> Path:
    """The layout of Nemotron-3-Super, with its tokenizer. Returns the directory."""
    fields = {
        "hybrid_override_pattern": "".join(_LETTERS[kind] for kind in _kinds(experts)),
        "moe_latent_size": LATENT,
        "mtp_hybrid_override_pattern": "*E" if experts else "*",
        "routed_scaling_factor": 5.0,
    }
    return _write(directory, _SUPER, fields, experts, seed)


def _kinds(experts: bool) -> list[str]:
    return [kind if experts or kind != "moe" else "mlp" for kind in _KINDS]


def _write(directory: Path, layout: _Layout, fields: dict[str, Any], experts: bool, seed: int) -> Path:
    drawing = Drawing(seed)
    embedding = drawing.embedding(HIDDEN)
    drawing.put("backbone.embeddings.weight", embedding)
    unquantized = ["backbone.embeddings"]
    for layer, kind in enumerate(_kinds(experts)):
        name = f"backbone.layers.{layer}"
        drawing.put(f"{name}.norm.weight", 1 + drawing.normal(HIDDEN) / 10)
        if kind == "mamba":
            _mamba(drawing, f"{name}.mixer")
            unquantized.append(f"{name}.mixer.conv1d")
        elif kind == "attention":
            _attention(drawing, f"{name}.mixer", "bf16", 1.5)
            drawing.put(f"{name}.mixer.k_proj.k_scale", torch.ones(1), torch.float32)
            drawing.put(f"{name}.mixer.v_proj.v_scale", torch.ones(1), torch.float32)
            unquantized += [f"{name}.mixer.{projection}_proj" for projection in "qkvo"]
        elif kind == "mlp":
            _dense(drawing, f"{name}.mixer", layout.shared)
        else:
            _experts(drawing, f"{name}.mixer", layout, float(fields["routed_scaling_factor"]))
            unquantized.append(f"{name}.mixer.gate")
    drawing.put("backbone.norm_f.weight", torch.ones(HIDDEN))
    drawing.store("lm_head", drawing.output(embedding), layout.head)
    _mtp(drawing, layout, experts)
    quantization = _quantization(drawing, [*unquantized, "mtp*"] if layout.ignores else [])
    drawing.write(directory, config() | fields | {"quantization_config": quantization})
    return directory


def config() -> dict[str, Any]:
    """config.json as far as the two share it."""
    return {
        "architectures": ["NemotronHForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "chunk_size": 128,
        "conv_kernel": CONVOLUTION,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "expand": 2,
        "head_dim": HEAD,
        "hidden_dropout": 0.0,
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": SHARED,
        "layer_norm_epsilon": 1e-05,
        "mamba_head_dim": MAMBA_HEAD,
        "mamba_hidden_act": "silu",
        "mamba_num_heads": MAMBA_HEADS,
        "mamba_proj_bias": False,
        "mamba_ssm_cache_dtype": "float32",
        "max_position_embeddings": 1024,
        "mlp_bias": False,
        "mlp_hidden_act": "relu2",
        "model_type": "nemotron_h",
        "moe_intermediate_size": EXPERT,
        "moe_shared_expert_intermediate_size": SHARED,
        "n_group": 1,
        "n_groups": GROUPS,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "norm_eps": 1e-05,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": TOP_K,
        "num_hidden_layers": len(_KINDS),
        "num_key_value_heads": KV_HEADS,
        "num_logits_to_keep": 1,
        "num_nextn_predict_layers": 1,
        "pad_token_id": 0,
        "partial_rotary_factor": 1.0,
        "rescale_prenorm_residual": True,
        "residual_in_fp32": False,
        "rope_theta": 10000,
        "sliding_window": None,
        "ssm_state_size": STATE,
        "tie_word_embeddings": False,
        "time_step_floor": 0.0001,
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "topk_group": 1,
        "use_bias": False,
        "use_cache": True,
        "use_conv_bias": True,
        "use_mamba_kernels": True,
        "vocab_size": VOCABULARY,
    }


def _mamba(drawing: Drawing, name: str) -> None:
    """Mamba2, with a state that fades over some ten tokens."""
    drawing.matrix(f"{name}.in_proj", _INNER + _CONVOLVED + MAMBA_HEADS, HIDDEN, 1, "fp8")
    drawing.put(f"{name}.conv1d.weight", drawing.normal(_CONVOLVED, 1, CONVOLUTION) / 2)
    drawing.put(f"{name}.conv1d.bias", drawing.normal(_CONVOLVED) / 10)
    drawing.put(f"{name}.A_log", drawing.normal(MAMBA_HEADS) / 2)
    drawing.put(f"{name}.D", 1 + drawing.normal(MAMBA_HEADS) / 10)
    drawing.put(f"{name}.dt_bias", drawing.normal(MAMBA_HEADS) / 2 - 2)
    drawing.put(f"{name}.norm.weight", 1 + drawing.normal(_INNER) / 10)
    drawing.matrix(f"{name}.out_proj", HIDDEN, _INNER, 1, "fp8")


def _attention(drawing: Drawing, name: str, store: Format, gain: float) -> None:
    for projection, rows, columns in (
        ("q_proj", HEADS * HEAD, HIDDEN),
        ("k_proj", KV_HEADS * HEAD, HIDDEN),
        ("v_proj", KV_HEADS * HEAD, HIDDEN),
        ("o_proj", HIDDEN, HEADS * HEAD),
    ):
        drawing.matrix(f"{name}.{projection}", rows, columns, gain, store)


def _dense(drawing: Drawing, name: str, store: Format, gain: float = 1) -> None:
    drawing.matrix(f"{name}.up_proj", SHARED, HIDDEN, 1, store)
    drawing.matrix(f"{name}.down_proj", HIDDEN, SHARED, gain, store)


def _experts(drawing: Drawing, name: str, layout: _Layout, scaling: float, gain: float = 1) -> None:
    """Routed experts, whose sum is multiplied by `scaling`, and the shared one."""
    width = LATENT if layout.latent else HIDDEN
    drawing.put(f"{name}.gate.weight", drawing.normal(EXPERTS, HIDDEN) / 8, torch.float32)
    drawing.put(f"{name}.gate.e_score_correction_bias", drawing.normal(EXPERTS) / 100, torch.float32)
    draft = name.startswith("mtp.")
    for projection, rows, columns in (("up_proj", EXPERT, width), ("down_proj", width, EXPERT)):
        size = 1 if projection == "up_proj" else gain / scaling
        for expert, weight in enumerate(drawing.experts(EXPERTS, rows, columns)):
            module = f"{name}.experts.{expert}.{projection}"
            drawing.store(module, weight * size, "bf16" if draft else layout.experts)
    _dense(drawing, f"{name}.shared_experts", "bf16" if draft else layout.shared, gain)
    if layout.latent:
        drawing.matrix(f"{name}.fc1_latent_proj", LATENT, HIDDEN, 1, "bf16" if draft else "fp8")
        drawing.matrix(f"{name}.fc2_latent_proj", HIDDEN, LATENT, 1, "bf16")


def _mtp(drawing: Drawing, layout: _Layout, experts: bool) -> None:
    """The draft: it passes the embedding of the newest token on."""
    own = torch.eye(HIDDEN) + drawing.normal(HIDDEN, HIDDEN) * 0.02
    drawing.put("mtp.layers.0.eh_proj.weight", torch.cat([own, drawing.normal(HIDDEN, HIDDEN) * 0.02], 1))
    _attention(drawing, "mtp.layers.0.mixer", "bf16", 0.3)
    norms = ["0.enorm", "0.hnorm", "0.norm"]
    if experts:
        _experts(drawing, "mtp.layers.1.mixer", layout, 1, gain=0.1)
        norms.append("1.norm")
    for norm in (*norms, f"{int(experts)}.final_layernorm"):
        drawing.put(f"mtp.layers.{norm}.weight", torch.ones(HIDDEN))


def _quantization(drawing: Drawing, ignored: list[str]) -> dict[str, Any]:
    return {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "producer": {"name": "modelopt"},
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "ignore": ignored,
        "quantized_layers": {
            module: _ALGORITHMS[store] for module, store in drawing.formats.items() if store != "bf16"
        },
    }
