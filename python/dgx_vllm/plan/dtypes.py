"""Dtypes: what vLLM computes in, by --dtype and what the checkpoint says."""

from collections.abc import Iterable, Mapping
from typing import Any

from dgx_vllm.checkpoints.fields import text_part

#: Bytes of a number.
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

#: Those of --dtype that are short for another.
_SHORT = {"half": "float16", "float": "float32"}

#: What a GB10 and a CPU compute in; the first stands in for others (platforms' supported_dtypes).
_SUPPORTED = ("bfloat16", "float16", "float32")

#: Other dtypes of torch that a config may name; vLLM takes the first of those above for them.
OTHERS = (
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "double"),
    *("int8", "uint8", "int16", "short", "int32", "int", "int64", "long"),
)

#: Models that vLLM does not run in float16 (config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS).
NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")


def named(name: str) -> str:
    """A dtype's usual name, of `torch.float32` or `half` as well."""
    bare = name.removeprefix("torch.").lower()
    return _SHORT.get(bare, bare)


def stored(config: Mapping[str, Any], files: Iterable[str] = ()) -> str:
    """The dtype that a checkpoint is in, as vLLM finds it (get_torch_dtype).

    Args:
        config: config.json.
        files: dtypes of its tensors as safetensors calls them, asked where the config names none.
    """
    parts = (config, text_part("", config).values, config.get("vision_config"), config.get("encoder_config"))
    for part in parts:
        if isinstance(part, Mapping):
            dtype = part.get("dtype") or part.get("torch_dtype")
            if isinstance(dtype, str):
                return named(dtype)
    kinds = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    dtypes = {kinds[kind] for kind in files if kind in kinds}
    return dtypes.pop() if len(dtypes) == 1 else "float32"


def served(asked: str, stored: str, family: str) -> str:
    """The dtype that vLLM computes in.

    Args:
        asked: --dtype.
        stored: the checkpoint's.
        family: its model_type.

    Returns:
        A dtype's name; `stored` itself where it is none of torch's.
    """
    if asked != "auto":
        return named(asked)
    if stored in OTHERS:
        return _SUPPORTED[0]
    if stored not in BYTES:
        return stored
    # float32 is halved, and what the platform or the model cannot do is replaced.
    if stored == "float32" or stored not in _SUPPORTED or (stored == "float16" and family in NO_FLOAT16):
        return _SUPPORTED[0]
    return stored
