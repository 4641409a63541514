"""linear_decode, emulated, against float64."""

import ctypes

import numpy as np
import pytest
from formats import aligned, bf16, dequantize, e4m3, from_bf16, pointer, swizzle

TENSOR, CHANNEL, BLOCK = range(3)


def run(
    emulated: ctypes.CDLL, weight, scale, global_scale, w, tokens, rows, k, swizzled, fp8, kind, biased
) -> None:
    """Runs on fresh activations and compares; `w` is what the weights mean."""
    rng = np.random.default_rng(rows + k + tokens)
    stride = k + 8
    x = aligned(np.full((tokens, stride), 0x7FC0, np.uint16))
    x[:, :k] = bf16(rng.standard_normal((tokens, k)))
    bias = aligned(bf16(rng.standard_normal(rows))) if biased else None
    out = aligned(np.full((tokens, rows), 0x7FC0, np.uint16))
    arrays = [aligned(weight), None if scale is None else aligned(scale), aligned(global_scale)]
    error = emulated.linear_decode(
        *map(ctypes.c_void_p, map(pointer, (*arrays, bias, x, out))),
        ctypes.c_int64(stride),
        tokens,
        rows,
        k,
        swizzled,
        fp8,
        kind,
    )
    assert error == 0
    expected = from_bf16(x[:, :k]) @ w.T + (0 if bias is None else from_bf16(bias))
    error = np.linalg.norm(from_bf16(out) - expected) / np.linalg.norm(expected)
    assert error < 3e-3, f"relative L2 {error:.2e}"


@pytest.mark.parametrize("swizzled", [False, True])
@pytest.mark.parametrize(
    ("tokens", "rows", "k", "biased"),
    [(1, 128, 512, False), (2, 48, 192, True), (3, 32, 64, False), (8, 256, 1088, True), (16, 16, 768, False), (11, 32, 4416, False)],  # noqa: E501
)  # fmt: skip
def test_linear_decode_in_nvfp4_matches_float64(
    emulated: ctypes.CDLL, swizzled: bool, tokens: int, rows: int, k: int, biased: bool
) -> None:
    rng = np.random.default_rng(k)
    weight = rng.integers(0, 256, (rows, k // 2), np.uint8)
    scale = rng.integers(0, 0x7F, (rows, k // 16), np.uint8)
    global_scale = np.array([0.01], np.float32)
    w = dequantize(weight, scale) * np.float64(global_scale[0])
    run(
        emulated,
        weight,
        swizzle(scale) if swizzled else scale,
        global_scale,
        w,
        tokens,
        rows,
        k,
        swizzled,
        False,
        0,
        biased,
    )


@pytest.mark.parametrize("rows", [128, 256])
@pytest.mark.parametrize(("tokens", "k"), [(1, 320), (2, 512), (5, 576), (9, 768), (16, 1024), (3, 2304)])
def test_nvfp4_scales_of_several_stages(emulated: ctypes.CDLL, tokens: int, rows: int, k: int) -> None:
    """Swizzled, in whole blocks of 128 rows, and longer than the 256 values that a stage copies."""
    test_linear_decode_in_nvfp4_matches_float64(emulated, True, tokens, rows, k, False)


@pytest.mark.parametrize("kind", [TENSOR, CHANNEL, BLOCK])
@pytest.mark.parametrize(
    ("tokens", "rows", "k", "biased"),
    [
        (1, 144, 512, False),
        (2, 256, 320, True),
        (5, 16, 144, False),
        (9, 32, 2320, True),
        (16, 48, 256, False),
        (3, 32, 1280, True),
        (9, 784, 4096, False),  # more tiles than blocks
    ],
)
def test_linear_decode_in_fp8_matches_float64(
    emulated: ctypes.CDLL, kind: int, tokens: int, rows: int, k: int, biased: bool
) -> None:
    rng = np.random.default_rng(k + kind)
    weight = rng.integers(0, 256, (rows, k), np.uint8)
    weight[(weight & 0x7F) == 0x7F] = 0  # NaN is no weight
    shape = {TENSOR: (1,), CHANNEL: (rows,), BLOCK: (-(-rows // 128), -(-k // 128))}[kind]
    scales = (rng.random(shape) + 0.5).astype(np.float32) * 0.01
    full = {
        TENSOR: lambda: scales[:, None],
        CHANNEL: lambda: scales[:, None],
        BLOCK: lambda: np.repeat(np.repeat(scales, 128, 0), 128, 1)[:rows, :k],
    }[kind]().astype(np.float64)
    run(emulated, weight, None, scales, e4m3(weight) * full, tokens, rows, k, False, True, kind, biased)
