"""The compressed form and the patterns, restated value by value in plain Python and numpy with ml_dtypes."""

import itertools
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES: dict[str, Any] = {
    "U8": np.uint8,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
}


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[8 + length + each["data_offsets"][0] : 8 + length + each["data_offsets"][1]],
            _DTYPES[each["dtype"]],
        ).reshape(each["shape"])
        for name, each in header.items()
    }


def values(weight: np.ndarray, scale: np.ndarray, scale_2: np.ndarray) -> np.ndarray:
    """What three tensors of a matrix mean: float64 [rows, columns]."""
    nibbles = np.stack((weight & 15, weight >> 4), axis=-1).reshape(*weight.shape[:-1], -1)
    numbers = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    return numbers * np.repeat(scale.astype(np.float64), 16, axis=-1) * scale_2.astype(np.float64)


def zeros_fit(row: np.ndarray, run: int) -> bool:
    """Whether each group of four runs has two that are all zeros."""
    groups = row.reshape(-1, 4, run)
    return all(sum(bool((part != 0).any()) for part in group) <= 2 for group in groups)


def expanded(codes: bytes, positions: bytes, run: int) -> list[int]:
    """One row's codes from its compressed form, as the layout's words have it."""
    halves = [nibble for byte in codes for nibble in (byte & 15, byte >> 4)]
    places = [nibble for byte in positions for nibble in (byte & 15, byte >> 4)]
    row: list[int] = []
    for group, place in enumerate(places):
        out = [0] * (4 * run)
        for which, at in enumerate((place % 4, place // 4)):
            begin = (2 * group + which) * run
            out[at * run : (at + 1) * run] = halves[begin : begin + run]
        row += out
    return row


def best_choice(cost: np.ndarray, run: int) -> float:
    """The largest sum of costs that two runs of each group can keep, by trying all six choices."""
    total = 0.0
    for group in cost.reshape(-1, 4, run).sum(axis=-1):
        total += max(group[i] + group[j] for i, j in itertools.combinations(range(4), 2))
    return total
