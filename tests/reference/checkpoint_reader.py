"""A checkpoint read with numpy and ml_dtypes alone: the independent half of the comparison.

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


def dequantize(packed: np.ndarray, scale: np.ndarray, scale_2: np.ndarray) -> np.ndarray:
    """uint8 [rows, columns / 2], E4M3 [rows, columns / 16] and a scalar -> float32 [rows, columns]."""
    nibbles = np.empty((packed.shape[0], packed.shape[1] * 2), np.uint8)
    nibbles[:, 0::2] = packed & 15
    nibbles[:, 1::2] = packed >> 4
    values = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    return values * np.repeat(scale.astype(np.float32), 16, axis=1) * scale_2.astype(np.float32)


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
