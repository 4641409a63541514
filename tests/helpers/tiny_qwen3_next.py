"""Qwen3-Next of a few channels: three layers of linear attention, then one of full attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3NextConfig
from vllm.config import KernelConfig, ModelConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.quantization.modelopt import ModelOptNvFp4Config
from vllm.model_executor.models.qwen3_next import Qwen3NextSparseMoeBlock

HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 128, 64, 4, 2
_FIELDS = {
    "vocab_size": 128,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "moe_intermediate_size": INTERMEDIATE,
    "shared_expert_intermediate_size": 64,
    "num_experts": EXPERTS,
    "num_experts_per_tok": TOP_K,
    "max_position_embeddings": 128,
}


def model_config(directory: Path, **fields: int) -> ModelConfig:
    """vLLM's account of the model in BF16; its config.json is written into the directory."""
    Qwen3NextConfig(**{**_FIELDS, **fields}, architectures=["Qwen3NextForCausalLM"]).save_pretrained(
        directory
    )
    name = str(directory)
    return ModelConfig(
        model=name, tokenizer=name, skip_tokenizer_init=True, dtype="bfloat16", max_model_len=128
    )


def nvfp4(*excluded: str) -> ModelOptNvFp4Config:
    """ModelOpt's NVFP4 for all of the model but the modules that match."""
    fields = {"quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16}
    return ModelOptNvFp4Config.from_config({"quantization": {**fields, "exclude_modules": [*excluded]}})


def moe_block(
    directory: Path,
    prefix: str,
    quantization: ModelOptNvFp4Config,
    backends: dict[str, Any],
    additional_config: dict[str, Any] | None = None,
    **fields: int,
) -> Qwen3NextSparseMoeBlock:
    """A layer of experts as the model makes it, its weights not loaded."""
    config = VllmConfig(
        model_config=model_config(directory, **fields),
        kernel_config=KernelConfig(**backends),
        additional_config=additional_config or {},
    )
    config.quant_config = quantization
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with set_current_vllm_config(config):
            return Qwen3NextSparseMoeBlock(config, prefix=prefix)
    finally:
        torch.set_default_dtype(before)
