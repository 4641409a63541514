"""The software E2M1 conversion and the NVFP4 quantizer, emulated, against their definitions."""

import ctypes

import ml_dtypes
import numpy as np
import pytest
from formats import E2M1, aligned, bf16, e2m1_codes, e4m3, e4m3_codes, from_bf16, pointer, swizzle


def convert(emulated: ctypes.CDLL, values: np.ndarray) -> np.ndarray:
    codes = np.empty(values.shape, np.uint8)
    emulated.convert_e2m1(
        ctypes.c_void_p(pointer(values)), ctypes.c_void_p(pointer(codes)), ctypes.c_int64(values.size)
    )
    return codes


def patterns() -> np.ndarray:
    """Both signs of: all with a zero tail of 16 bits, each tie with its neighbours, and a million at random."""  # noqa: E501
    heads = np.arange(1 << 15, dtype=np.uint32) << 16
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 0.5, 1.0], np.float32).view(np.uint32)
    near = np.concatenate([ties + np.uint32(d) for d in (0, 1, 2)] + [ties - np.uint32(d) for d in (1, 2)])
    drawn = np.random.default_rng(0).integers(0, 1 << 31, 1 << 20, np.uint32)
    ends = np.array([0, 1, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF], np.uint32)
    positive = np.concatenate([heads, heads | 0xFFFF, near, drawn, ends])
    return np.concatenate([positive, positive | np.uint32(1 << 31)]).view(np.float32)


def test_conversion_is_ptxs(emulated: ctypes.CDLL) -> None:
    values = patterns()
    np.testing.assert_array_equal(convert(emulated, values), e2m1_codes(values))


def test_conversion_is_ml_dtypes_but_for_nan(emulated: ctypes.CDLL) -> None:
    values = patterns()
    values = np.ascontiguousarray(values[~np.isnan(values)])
    other = values.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    mine = E2M1[convert(emulated, values)]
    np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(np.signbit(mine), np.signbit(other))


@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (3, 64), (5, 80), (130, 48)])
def test_the_kernel_quantizes_as_the_reference(
    emulated: ctypes.CDLL, swizzled: bool, kind: str, rows: int, columns: int
) -> None:
    rng = np.random.default_rng(rows * columns)
    values = rng.standard_normal((rows, columns)) * np.exp(rng.standard_normal((rows, columns)))
    values[0, :16] = 0
    stride = columns + 16
    storage = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}[kind]
    x = aligned(np.zeros((rows, stride), storage))
    x[:, :columns] = bf16(values) if kind == "bfloat16" else values
    exact = from_bf16(x[:, :columns]) if kind == "bfloat16" else x[:, :columns].astype(np.float64)
    scale = np.array([448 * 6 / np.abs(exact).max()], np.float32)

    blocks = columns // 16
    shape = (-(-rows // 128) * 128, -(-blocks // 4) * 4) if swizzled else (rows, blocks)
    packed, scales = (
        aligned(np.full((rows, columns // 2), 0xAA, np.uint8)),
        aligned(np.full(shape, 0xAA, np.uint8)),
    )
    error = emulated.quantize_nvfp4(
        *map(ctypes.c_void_p, map(pointer, (x, scale, packed, scales))), ctypes.c_int64(rows), ctypes.c_int64(stride),  # noqa: E501
        columns, swizzled, ["float32", "bfloat16", "float16"].index(kind),
    )  # fmt: skip
    assert error == 0

    blocked = exact.reshape(rows, blocks, 16).astype(np.float32)
    wanted = e4m3_codes(scale * (np.abs(blocked).max(-1) * np.float32(1 / 6)))
    np.testing.assert_array_equal(scales, swizzle(wanted) if swizzled else wanted)
    decoded = e4m3(wanted).astype(np.float32)
    with np.errstate(divide="ignore"):
        factor = np.where(decoded > 0, 1 / (decoded * (1 / scale)), np.float32(0))
    codes = e2m1_codes(blocked * factor[..., None]).reshape(rows, columns)
    np.testing.assert_array_equal(packed, codes[:, ::2] | codes[:, 1::2] << 4)
