"""ModelOpt's NVFP4 checkpoint layout: what NVIDIA publishes, and what vLLM's `modelopt_fp4` reads.

A quantized matrix `NAME.weight` becomes four tensors:

    NAME.weight          uint8          [rows, columns / 2]   packed E2M1
    NAME.weight_scale    float8_e4m3fn  [rows, columns / 16]  block scales, row-major (not swizzled)
    NAME.weight_scale_2  float32        []                    global scale of the weight
    NAME.input_scale     float32        []                    global scale of the layer's input

Everything else is bfloat16.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dgx_vllm import __version__
from dgx_vllm.formats.nvfp4.block import BLOCK_SIZE, global_scale, quantize

#: Projections that runtimes fuse into one matrix, and which therefore share global scales.
_FUSED = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"} | dict.fromkeys(
    ("q_proj", "k_proj", "v_proj"), "qkv_proj"
)


def fused_name(module: str) -> str:
    """The name under which a runtime fuses a module (`...experts.3.gate_up_proj`), else its own."""
    parent, _, leaf = module.rpartition(".")
    return f"{parent}.{_FUSED[leaf]}" if leaf in _FUSED else module


def shared_amax(amax: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Raise each module's largest magnitude to that of the modules it is fused with.

    Args:
        amax: module name -> scalar.

    Returns:
        The same keys; fused modules have equal values.
    """
    groups: dict[str, torch.Tensor] = {}
    for module, value in amax.items():
        name = fused_name(module)
        groups[name] = torch.maximum(groups[name], value) if name in groups else value
    return {module: groups[fused_name(module)] for module in amax}


def unquantized_modules(tensors: Mapping[str, torch.Tensor], quantized: Collection[str]) -> list[str]:
    """Full names of the linear and convolution modules that stay bfloat16, sorted.

    Embedding tables are not layers to ModelOpt, and vectors (norms) are never quantized: neither is listed.
    """
    modules = {name.removesuffix(".weight") for name, tensor in tensors.items() if tensor.dim() >= 2}
    return sorted(module for module in modules - set(quantized) if not module.endswith("embed_tokens"))


def _quantization_config(ignore: list[str]) -> dict[str, Any]:
    """The `quantization_config` of config.json (every ignored module by its full name: vLLM 0.32 silently
    leaves layers that only a leading wildcard matches quantized)."""
    element = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": BLOCK_SIZE}
    return {
        "config_groups": {
            "group_0": {"input_activations": element, "weights": element, "targets": ["Linear"]}
        },
        "ignore": ignore,
        "quant_algo": "NVFP4",
        "producer": {"name": "dgx_vllm", "version": __version__},
        "quant_method": "modelopt",
    }


def _hf_quant_config(ignore: list[str]) -> dict[str, Any]:
    """The contents of hf_quant_config.json, the older of the two places where runtimes look."""
    return {
        "producer": {"name": "dgx_vllm", "version": __version__},
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": None,
            "group_size": BLOCK_SIZE,
            "exclude_modules": ignore,
        },
    }


def quantize_tensors(
    tensors: Mapping[str, torch.Tensor], quantized: Iterable[str], input_amax: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Turn full-precision tensors into the tensors of a checkpoint.

    Args:
        tensors: checkpoint name -> tensor, any float dtype.
        quantized: modules whose `.weight` becomes NVFP4.
        input_amax: quantized module -> largest magnitude of its input over a calibration set.

    Returns:
        Checkpoint name -> contiguous tensor, in the layout of this module's docstring.

    Raises:
        KeyError: a quantized module has no weight or no input_amax.
        ValueError: a weight does not fit NVFP4 (see `block.quantize`).
    """
    quantized = list(quantized)
    weight_amax = shared_amax({m: tensors[f"{m}.weight"].abs().amax().to(torch.float32) for m in quantized})
    inputs = shared_amax({m: input_amax[m] for m in quantized})
    out = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in tensors.items()
        if name.removesuffix(".weight") not in weight_amax
    }
    for module in quantized:
        packed = quantize(tensors[f"{module}.weight"], global_scale(weight_amax[module]))
        out[f"{module}.weight"] = packed.weight
        out[f"{module}.weight_scale"] = packed.weight_scale
        out[f"{module}.weight_scale_2"] = packed.weight_scale_2.clone()
        out[f"{module}.input_scale"] = global_scale(inputs[module])
    return out


def write_checkpoint(
    directory: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    quantized: Collection[str],
    input_amax: Mapping[str, torch.Tensor],
) -> None:
    """Quantize and write model.safetensors, config.json and hf_quant_config.json.

    Args:
        directory: created if missing; files of these names are overwritten.
        config: the model's config.json without `quantization_config`.
        tensors, quantized, input_amax: as `quantize_tensors` takes them.

    Raises:
        KeyError, ValueError: as `quantize_tensors`; nothing is written then.
        OSError: the directory cannot be written.
    """
    stored = quantize_tensors(tensors, quantized, input_amax)
    ignore = unquantized_modules(tensors, quantized)
    directory.mkdir(parents=True, exist_ok=True)
    # Not save_file: it makes the file readable by its owner alone.
    (directory / "model.safetensors").write_bytes(save(stored, metadata={"format": "pt"}))
    write_json(directory / "config.json", {**config, "quantization_config": _quantization_config(ignore)})
    write_json(directory / "hf_quant_config.json", _hf_quant_config(ignore))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON as Hugging Face tools do: two spaces, a final newline."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
