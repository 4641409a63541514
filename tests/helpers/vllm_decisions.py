"""vLLM's own decisions: how its quantization configs would build a layer, without building it."""

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import compressed_tensors, fp8, modelopt, mxfp4
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import (
    CompressedTensorsConfig,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models import registry

from dgx_vllm.plan.built_precision import Kind, Layer

assert compressed_tensors  # both are part of what is decided
assert mxfp4

_PRECISIONS = {
    "NVFP4": "NVFP4",
    "W4A16_NVFP4": "NVFP4",
    "FP8": "FP8",
    "FP8_PER_CHANNEL_PER_TOKEN": "FP8",
    "FP8_PB_WO": "FP8",
    "MXFP8": "MXFP8",
}
_CLASSES: dict[Kind, type[torch.nn.Module]] = {
    Kind.LINEAR: LinearBase,
    Kind.ROUTED: RoutedExperts,
    Kind.HEAD: ParallelLMHead,
}


def model_class(architecture: str) -> Any:
    """vLLM's class of an architecture."""
    module, name = (
        registry._VLLM_MODELS.get(architecture) or registry._SPECULATIVE_DECODING_MODELS[architecture]
    )[:2]
    return getattr(importlib.import_module(f"vllm.model_executor.models.{module}"), name)


def config_of(fields: dict[str, Any], architecture: str) -> Any:
    """vLLM's quantization config of a checkpoint's fields, told the names of an architecture's modules."""
    fields, method = copy.deepcopy(fields), fields.get("quant_method")
    if method == "compressed-tensors":
        config: Any = CompressedTensorsConfig.from_config(fields)
    elif method == "fp8":
        config = fp8.Fp8Config.from_config(fields)
    else:
        algorithm = str(fields.get("quantization", fields)["quant_algo"]).upper()
        kinds = {
            "MIXED_PRECISION": modelopt.ModelOptMixedPrecisionConfig,
            "FP8": modelopt.ModelOptFp8Config,
            "MXFP8": modelopt.ModelOptMxFp8Config,
        }
        config = kinds.get(algorithm, modelopt.ModelOptNvFp4Config).from_config(fields)
    cls = model_class(architecture)
    mapper = getattr(cls, "hf_to_vllm_mapper", None)
    if mapper is not None:
        config.apply_vllm_mapper(mapper.get_rename_mapper())
    config.packed_modules_mapping = getattr(cls, "packed_modules_mapping", None) or {}
    return config


@contextmanager
def _named() -> Iterator[None]:
    """What vLLM would build is called by its precision."""

    def of_algorithm(config: Any, algorithm: str, prefix: str) -> str:
        return algorithm

    def experts(algorithm: str) -> Callable[..., str]:
        return lambda *args, **fields: algorithm

    with (
        mock.patch.object(modelopt, "build_linear_method", of_algorithm),
        mock.patch.object(modelopt.ModelOptNvFp4Config, "FusedMoEMethodCls", experts("NVFP4")),
        mock.patch.object(modelopt.ModelOptFp8Config, "FusedMoEMethodCls", experts("FP8")),
        mock.patch.object(modelopt.ModelOptMxFp8Config, "FusedMoEMethodCls", experts("MXFP8")),
        mock.patch.object(modelopt, "ModelOptNvFp4FusedMoE", experts("NVFP4")),
        mock.patch.object(modelopt, "ModelOptFp8MoEMethod", experts("FP8")),
        mock.patch.object(modelopt, "ModelOptMxFp8FusedMoE", experts("MXFP8")),
        mock.patch.object(modelopt, "Fp8MoEMethod", experts("FP8")),
        mock.patch.object(fp8, "Fp8MoEMethod", experts("FP8")),
        mock.patch.object(fp8, "Fp8LinearMethod", return_value=mock.Mock(precision="FP8")),
        mock.patch.object(fp8, "UnquantizedFusedMoEMethod", experts("")),
    ):
        yield


def precision(config: Any, layer: Layer) -> str | None:
    """What vLLM builds a layer in, None for unquantized.

    Raises:
        ValueError: vLLM refuses the config.
    """
    module: Any = _CLASSES[layer.kind].__new__(_CLASSES[layer.kind])
    torch.nn.Module.__init__(module)
    module.moe_config = None
    if isinstance(config, CompressedTensorsConfig):
        return _compressed(config, module, layer)
    with _named():
        method = config.get_quant_method(module, layer.name)
    if method is None or method == "" or isinstance(method, UnquantizedLinearMethod):
        return None
    return _PRECISIONS[method if isinstance(method, str) else method.precision]


def _compressed(config: CompressedTensorsConfig, module: Any, layer: Layer) -> str | None:
    """As `get_quant_method` and `CompressedTensorsMoEMethod.get_moe_method` ask."""
    names = [layer.name]
    if layer.kind is Kind.ROUTED:
        config._add_fused_moe_to_target_scheme_map()
        names = [f"{layer.name}.0.{projection}" for projection in layer.projections]
    schemes = [config.get_scheme_dict(module, name) for name in names]
    if any(scheme != schemes[0] for scheme in schemes):
        raise ValueError("All MoE projections need to have same quantization scheme but found multiple")
    weights: Any = schemes[0]["weights"] if schemes[0] else None
    if weights is None:
        return None
    if weights.type == "int":
        return "INT"
    if weights.num_bits == 4:
        return "NVFP4" if config._is_nvfp4_format(weights) else "MXFP4"
    return "MXFP8" if config._is_mxfp8(weights) else "FP8"
