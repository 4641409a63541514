"""A checkpoint read with numpy and ml_dtypes alone: the independent half of a comparison.

Nothing of dgx_vllm, safetensors' own loaders or vLLM is used here, so that no mistake can be shared.
"""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, Any] = {
    "U8": np.uint8,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, writable copies."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    out = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            out[name] = np.frombuffer(data[start:end], DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()
    return out


def dequantize(packed: np.ndarray, scale: np.ndarray, scale_2: np.ndarray, dtype: Any = np.float32) -> Any:
    """What the three tensors of NVFP4 matrices mean, in the dtype's arithmetic.

    Args:
        packed: uint8 [..., columns / 2].
        scale: E4M3 [..., columns / 16].
        scale_2: a scalar.
        dtype: of the result, [..., columns].
    """
    nibbles = np.stack((packed & 15, packed >> 4), axis=-1).reshape(*packed.shape[:-1], -1)
    values = nibbles.view(ml_dtypes.float4_e2m1fn).astype(dtype)
    return values * np.repeat(scale.astype(dtype), 16, axis=-1) * scale_2.astype(dtype)


def read_weights(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Checkpoint tensors -> float32 weights under the same names, scales consumed."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith((".weight_scale", ".weight_scale_2", ".input_scale")):
            continue
        if tensor.dtype == np.uint8:
            out[name] = dequantize(tensor, tensors[f"{name}_scale"], tensors[f"{name}_scale_2"])
        else:
            out[name] = tensor.astype(np.float32)
    return out
