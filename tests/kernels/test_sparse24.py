"""compress_24 and decompress_24, emulated, and their reference in PyTorch, against the layout by bytes."""

import ctypes

import numpy as np
import pytest
import torch
from formats import aligned, keep_two, pointer, swizzle, tiles

from dgx_vllm.formats.nvfp4.tiles import from_tiles, to_tiles, violations

SIZES = [(1, 128, 256), (2, 128, 512), (1, 256, 768)]
sizes = pytest.mark.parametrize(("experts", "rows", "k"), SIZES, ids=str)
halves = pytest.mark.parametrize("halves", [False, True])
swizzled = pytest.mark.parametrize("swizzled", [False, True])


def call(function, arrays: list[np.ndarray], *sizes: int) -> None:
    assert function(*map(ctypes.c_void_p, map(pointer, arrays)), *sizes) == 0


def draw(experts: int, rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Packed weights of 2:4, -0 among them and groups with fewer than two values, and any scales."""
    rng = np.random.default_rng(rows + k)
    packed = rng.integers(0, 256, (experts, rows, k // 2), np.uint8)
    packed[rng.random(packed.shape) < 0.2] &= 0x8F  # a value becomes +0
    packed[rng.random(packed.shape) < 0.2] &= 0xF8  # or a zero of either sign
    return keep_two(packed, rng), rng.integers(0, 256, (experts, rows, k // 16), np.uint8)


def compressed(emulated: ctypes.CDLL, packed: np.ndarray, scales: np.ndarray, halves: bool, swizzled: bool):
    experts, rows, half_k = packed.shape
    out = aligned(np.full((experts, rows // 16, half_k // 128, 1792), 0xAA, np.uint8))
    count = np.zeros(experts, np.int32)
    held = aligned(packed), aligned(swizzle(scales) if swizzled else scales)
    call(emulated.compress_24, [out, count, *held], experts, rows, 2 * half_k, halves, swizzled)
    return out, count


@sizes
@halves
@swizzled
def test_compression_is_the_layout(
    emulated: ctypes.CDLL, experts: int, rows: int, k: int, halves: bool, swizzled: bool
) -> None:
    packed, scales = draw(experts, rows, k)
    out, count = compressed(emulated, packed, scales, halves, swizzled)
    assert not count.any()
    assert (out == tiles(packed, scales, halves)).all()


@sizes
@halves
def test_the_reference_is_the_layout_and_comes_back(experts: int, rows: int, k: int, halves: bool) -> None:
    packed, scales = draw(experts, rows, k)
    codes, e4m3 = torch.from_numpy(packed), torch.from_numpy(scales).view(torch.float8_e4m3fn)
    out = to_tiles(codes, e4m3, halves=halves)
    assert (out.numpy() == tiles(packed, scales, halves)).all()
    weight, scale = from_tiles(out, halves=halves)
    assert torch.equal(weight, codes)
    assert torch.equal(scale.view(torch.uint8), e4m3.view(torch.uint8))


@sizes
@halves
@swizzled
def test_decompression_gives_the_same_bits(
    emulated: ctypes.CDLL, experts: int, rows: int, k: int, halves: bool, swizzled: bool
) -> None:
    packed, scales = draw(experts, rows, k)
    laid = swizzle(scales) if swizzled else scales
    held, _ = compressed(emulated, packed, scales, halves, swizzled)
    weight, scale = aligned(np.full_like(packed, 0xAA)), aligned(np.full_like(laid, 0xAA))
    call(emulated.decompress_24, [weight, scale, held], experts, rows, k, halves, swizzled)
    assert (weight == packed).all()
    assert (scale == laid).all()


def test_a_minus_zero_without_a_place_becomes_plus_zero(emulated: ctypes.CDLL) -> None:
    """And with one it stays: values come first, then -0, then the left."""
    packed = np.zeros((1, 128, 128), np.uint8)
    packed[0, 0, :6] = [0x18, 0x28, 0x88, 0x88, 0x80, 0x00]  # -0 1 -0 2; four times -0; +0 -0 +0 +0
    scales = np.zeros((1, 128, 16), np.uint8)
    held, count = compressed(emulated, packed, scales, False, False)
    weight, scale = aligned(np.empty_like(packed)), aligned(np.empty_like(scales))
    call(emulated.decompress_24, [weight, scale, held], 1, 128, 256, False, False)
    assert not count.any()
    assert weight[0, 0, :6].tolist() == [0x10, 0x20, 0x88, 0x00, 0x80, 0x00]


def test_what_is_not_sparse_is_counted_where_it_is(emulated: ctypes.CDLL) -> None:
    packed, scales = draw(3, 128, 256)
    packed[1, 5, 10:12] = [0x11, 0x01]
    packed[1, 127, 0:2] = [0x90, 0x11]
    packed[2, 64, 126:128] = [0x11, 0x11]
    for halves in (False, True):
        assert compressed(emulated, packed, scales, halves, False)[1].tolist() == [0, 2, 1]
    weight, scale = torch.from_numpy(packed), torch.from_numpy(scales).view(torch.float8_e4m3fn)
    assert violations(weight).tolist() == [0, 2, 1]
    where = r"not 2:4: 2 groups of four in expert 1 .* \(2 of 3 experts have such\)"
    with pytest.raises(ValueError, match=where):
        to_tiles(weight, scale, halves=False)


@pytest.mark.parametrize(("rows", "k", "halves"), [(24, 256, False), (48, 256, True), (32, 128, False)])
def test_the_reference_refuses_parts_of_tiles(rows: int, k: int, halves: bool) -> None:
    weight, scale = torch.zeros(1, rows, k // 2, dtype=torch.uint8), torch.zeros(1, rows, k // 16)
    with pytest.raises(ValueError, match=f"tiles are of 16 rows and 256 columns, got {rows} and {k}"):
        to_tiles(weight, scale.to(torch.float8_e4m3fn), halves=halves)
