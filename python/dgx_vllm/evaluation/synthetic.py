"""Synthetic: a small Qwen3-Next whose weights are drawn with the statistics of trained ones.

What trained weights have, a normal distribution lacks and quantization minds: heavy tails (Student's t with 4
degrees of freedom), outlier channels (one input channel in 64 six times as large), rows of different norms
(exp(0.5 z)) and layers of different norms (exp(0.3 z)). It was trained on nothing: what it predicts is noise
that depends on every layer, about as sharp as a language model's predictions.
"""

import re
from pathlib import Path
from typing import Any

import torch

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.demo.export import quantized_modules
from dgx_vllm.demo.model_config import config_json
from dgx_vllm.formats.nvfp4.modelopt import write_checkpoint

SEED = 0
HIDDEN = 256
LAYERS, EXPERTS = 4, 8
_HEADS, _KV_HEADS, _HEAD = 4, 2, 64
_KEY_HEADS, _VALUE_HEADS, _GDN_HEAD = 2, 4, 64
INNER = 128
_DEGREES = 4
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def write(directory: Path, seed: int = SEED, inner: int = INNER) -> Path:
    """Writes the checkpoint with the demo's tokenizer, in ModelOpt's NVFP4 with the demo's exclusions.

    Args:
        directory: created if missing.
        seed: of all that is drawn.
        inner: the experts' intermediate size.

    Returns:
        The directory.
    """
    tensors = drawn(seed, inner)
    quantized = quantized_modules(tensors)
    write_checkpoint(
        directory, config(inner), tensors, quantized, dict.fromkeys(quantized, torch.tensor(float(_DEGREES)))
    )
    for name in _TOKENIZER:
        (directory / name).write_bytes((CHECKPOINT / name).read_bytes())
    return directory


def config(inner: int = INNER) -> dict[str, Any]:
    """Its config.json."""
    return config_json(0, 2) | {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD,
        "linear_num_key_heads": _KEY_HEADS,
        "linear_num_value_heads": _VALUE_HEADS,
        "linear_key_head_dim": _GDN_HEAD,
        "linear_value_head_dim": _GDN_HEAD,
        "num_experts": EXPERTS,
        "moe_intermediate_size": inner,
        "shared_expert_intermediate_size": inner,
        "intermediate_size": inner,
    }


def drawn(seed: int = SEED, inner: int = INNER) -> dict[str, torch.Tensor]:
    """Its tensors in float32, by the names of a Qwen3-Next checkpoint."""
    return dict(_Drawing(seed, inner).tensors())


class _Drawing:
    def __init__(self, seed: int, inner: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._inner = inner

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        vocabulary = int(config()["vocab_size"])
        named = [
            ("model.embed_tokens.weight", self._normal(vocabulary, HIDDEN)),
            ("model.norm.weight", self._norm()),
            ("lm_head.weight", self._matrix(vocabulary, HIDDEN)),
        ]
        for layer in range(LAYERS):
            named += self._layer(f"model.layers.{layer}", attention=layer % 4 == 3)
        named += self._layer("mtp.layers.0", attention=True)
        named += [
            ("mtp.fc.weight", self._matrix(HIDDEN, 2 * HIDDEN)),
            *((f"mtp.{name}.weight", self._norm()) for name in ("norm", "pre_fc_norm_embedding")),
            ("mtp.pre_fc_norm_hidden.weight", self._norm()),
        ]
        return named

    def _layer(self, name: str, attention: bool) -> list[tuple[str, torch.Tensor]]:
        mixing = self._attention() if attention else self._delta_net()
        parts = [*mixing, ("mlp.gate", self._matrix(EXPERTS, HIDDEN))]
        for expert in (*(f"experts.{i}" for i in range(EXPERTS)), "shared_expert"):
            parts += [
                (f"mlp.{expert}.gate_proj", self._matrix(self._inner, HIDDEN)),
                (f"mlp.{expert}.up_proj", self._matrix(self._inner, HIDDEN)),
                (f"mlp.{expert}.down_proj", self._matrix(HIDDEN, self._inner)),
            ]
        parts += [("mlp.shared_expert_gate", self._matrix(1, HIDDEN))]
        parts += [(norm, self._norm()) for norm in ("input_layernorm", "post_attention_layernorm")]
        return [
            (f"{name}.{leaf}" if re.search("A_log|dt_bias", leaf) else f"{name}.{leaf}.weight", tensor)
            for leaf, tensor in parts
        ]

    def _attention(self) -> list[tuple[str, torch.Tensor]]:
        queries, keys = _HEADS * _HEAD, _KV_HEADS * _HEAD
        return [
            ("self_attn.q_proj", self._matrix(2 * queries, HIDDEN)),  # and a gate for each
            ("self_attn.k_proj", self._matrix(keys, HIDDEN)),
            ("self_attn.v_proj", self._matrix(keys, HIDDEN)),
            ("self_attn.o_proj", self._matrix(HIDDEN, queries)),
            ("self_attn.q_norm", self._normal(_HEAD) / 10),
            ("self_attn.k_norm", self._normal(_HEAD) / 10),
        ]

    def _delta_net(self) -> list[tuple[str, torch.Tensor]]:
        keys, values = _KEY_HEADS * _GDN_HEAD, _VALUE_HEADS * _GDN_HEAD
        return [
            ("linear_attn.in_proj_qkvz", self._matrix(2 * keys + 2 * values, HIDDEN)),
            ("linear_attn.in_proj_ba", self._matrix(2 * _VALUE_HEADS, HIDDEN)),
            ("linear_attn.conv1d", self._normal(2 * keys + values, 1, 4) / 2),
            ("linear_attn.out_proj", self._matrix(HIDDEN, values)),
            ("linear_attn.norm", 1 + self._normal(_GDN_HEAD) / 10),
            ("linear_attn.A_log", self._normal(_VALUE_HEADS).abs()),
            ("linear_attn.dt_bias", self._normal(_VALUE_HEADS)),
        ]

    def _matrix(self, rows: int, columns: int) -> torch.Tensor:
        """[rows, columns] that keep the size of what they multiply, about."""
        square = sum(self._normal(rows, columns) ** 2 for _ in range(_DEGREES)) / _DEGREES
        student = self._normal(rows, columns) / torch.as_tensor(square).sqrt()
        sizes = torch.ones(columns)
        sizes[torch.randperm(columns, generator=self._generator)[: max(columns // 64, 1)]] = 6
        weight = student * sizes * torch.exp(0.5 * self._normal(rows, 1))
        scale = torch.exp(0.3 * self._normal(1)) / (weight.square().mean() * columns).sqrt()
        matrix: torch.Tensor = weight * scale
        return matrix

    def _norm(self) -> torch.Tensor:
        """Around nought, since Qwen3-Next multiplies by 1 + weight."""
        return torch.exp(0.3 * self._normal(HIDDEN)) - 1

    def _normal(self, *shape: int) -> torch.Tensor:
        values: torch.Tensor = torch.randn(*shape, generator=self._generator)
        return values
