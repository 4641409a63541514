"""What vLLM computes in, against vLLM's own resolution, over all that it may be asked."""

import itertools
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import model as vllm_model
from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

from dgx_vllm.plan import dtypes, quantization

_FAMILIES = ("llama", *vllm_model._FLOAT16_NOT_SUPPORTED_MODELS)


@pytest.mark.parametrize(
    ("stored", "family"),
    list(itertools.product((*dtypes.BYTES, *dtypes.OTHERS), _FAMILIES)),
    ids=lambda value: value,
)
def test_auto_is_resolved_as_vllm_does(stored: str, family: str) -> None:
    resolved = vllm_model._resolve_auto_dtype(family, getattr(torch, stored), is_pooling_model=False)
    assert f"torch.{dtypes.served('auto', stored, family)}" == str(resolved)


@pytest.mark.parametrize("asked", vllm_model._STR_DTYPE_TO_TORCH_DTYPE)
def test_what_is_asked_for_is_served(asked: str) -> None:
    assert f"torch.{dtypes.served(asked, 'bfloat16', 'llama')}" == str(
        vllm_model._STR_DTYPE_TO_TORCH_DTYPE[asked]
    )


def test_every_dtype_of_numbers_that_torch_names_is_known() -> None:
    names = {
        str(each).removeprefix("torch.") for each in vars(torch).values() if isinstance(each, torch.dtype)
    }
    common = re.compile(r"float\d\d|bfloat16|float8_\w+|u?int(8|16|32|64)")
    wanted = {name for name in names if common.fullmatch(name)}
    assert wanted - {"uint16", "uint32", "uint64"} <= {*dtypes.BYTES, *dtypes.OTHERS}


def test_models_without_float16_are_vllms() -> None:
    assert set(dtypes.NO_FLOAT16) == set(vllm_model._FLOAT16_NOT_SUPPORTED_MODELS)


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"dtype": "float16"}, []),
        ({"torch_dtype": "torch.float32"}, []),
        ({"dtype": "float32", "text_config": {"dtype": "float16"}}, []),
        ({"text_config": {"dtype": "float16"}}, []),
        ({"vision_config": {"dtype": "float16"}}, ["F32"]),
        ({"encoder_config": {"dtype": "float16"}}, ["F32"]),
        ({}, []),
        ({}, ["F16"]),
        ({}, ["BF16", "F32"]),
        ({}, ["BF16", "F8_E4M3"]),
    ],
    ids=str,
)
def test_the_stored_dtype_is_found_where_vllm_finds_it(
    config: dict[str, Any], files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.transformers_utils import model_arch_config_convertor as convertor

    def part(values: dict[str, Any]) -> Any:
        made = {name: part(value) if isinstance(value, dict) else value for name, value in values.items()}
        name = made.pop("torch_dtype", made.pop("dtype", None))
        found = SimpleNamespace(**made, dtype=getattr(torch, name.removeprefix("torch.")) if name else None)
        found.get_text_config = lambda: getattr(found, "text_config", found)
        return found

    metadata = {str(index): {"dtype": dtype} for index, dtype in enumerate(files)}
    monkeypatch.setattr(convertor, "get_safetensors_params_metadata", lambda *_, **__: metadata)
    theirs = ModelArchConfigConvertorBase.get_torch_dtype(part(config), "model", None, "hf")
    ours = dtypes.stored(config, files)
    assert dtypes.served("auto", ours, "llama") == dtypes.served("auto", dtypes.named(str(theirs)), "llama")


@pytest.mark.parametrize("method", ["modelopt", "modelopt_fp4", "compressed-tensors", "fp8"])
@pytest.mark.parametrize(
    "scheme",
    [
        {},
        {"kv_cache_quant_algo": "FP8"},
        {"kv_cache_quant_algo": "NVFP4"},
        {"kv_cache_quant_algo": "INT8"},
        {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}},
        {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": True}},
        {"kv_cache_scheme": {"num_bits": 8, "type": "int", "dynamic": False}},
        {"kv_cache_scheme": {"num_bits": 4, "type": "float"}},
        {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
    ],
    ids=str,
)
def test_the_kv_caches_dtype_is_the_checkpoints_as_vllm_reads_it(method: str, scheme: dict[str, Any]) -> None:
    from vllm.utils.torch_utils import get_kv_cache_quant_algo_string

    given = {"quant_method": method, "quant_algo": "FP8", "config_groups": {}, **scheme}
    theirs = get_kv_cache_quant_algo_string(given)
    if method == "compressed-tensors" and "kv_cache_scheme" in scheme:
        theirs = "fp8"  # Attention takes fp8 for any scheme; the others are refused before
    ours = quantization.cache_dtype(given)
    assert {"fp8": "fp8_e4m3"}.get(ours or "", ours or "auto") == {"fp8": "fp8_e4m3"}.get(
        theirs or "", theirs or "auto"
    )
