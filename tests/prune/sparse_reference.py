"""The compressed form and the patterns, restated value by value in plain Python and numpy with ml_dtypes."""

import itertools

import numpy as np

from helpers.checkpoint_reader import dequantize


def values(weight: np.ndarray, scale: np.ndarray, scale_2: np.ndarray) -> np.ndarray:
    """What three tensors of a matrix mean: float64 [rows, columns]."""
    return dequantize(weight, scale, scale_2, np.float64)


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
