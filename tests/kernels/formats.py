"""Number formats and layouts as their definitions have them, in float64; shares nothing with the kernels."""

import ctypes
import mmap

import numpy as np

_libc = ctypes.CDLL(None)

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def e4m3(codes: np.ndarray) -> np.ndarray:
    codes = codes.astype(np.int64)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    value = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    value = np.where((codes & 0x7F) == 0x7F, np.nan, value)
    return np.where(codes & 0x80, -value, value)


def bf16(values: np.ndarray) -> np.ndarray:
    """Nearest BF16, ties to even, as bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FFF), rounded)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def unpack_e2m1(packed: np.ndarray) -> np.ndarray:
    """[..., k / 2] bytes, low nibble first, to [..., k] values."""
    return E2M1[np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)]


def dequantize(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Weights without their global scale; scales linear, [..., k / 16]."""
    return unpack_e2m1(packed) * np.repeat(e4m3(scales), 16, -1)


def swizzle(scales: np.ndarray) -> np.ndarray:
    """[..., rows, blocks] to the padded 128x4 layout: 512 bytes hold 128 rows of four blocks, rows 32 apart together."""  # noqa: E501
    *lead, rows, blocks = scales.shape
    padded_rows, padded_blocks = -(-rows // 128) * 128, -(-blocks // 4) * 4
    out = np.zeros((*lead, padded_rows * padded_blocks), scales.dtype)
    for row in range(rows):
        for block in range(blocks):
            tile = row // 128 * (padded_blocks // 4) + block // 4
            out[..., tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + block % 4] = scales[..., row, block]
    return out.reshape(*lead, padded_rows, padded_blocks)


def keep_two(packed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Packed codes with two of every four, drawn at random, set to +0."""
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1, 4)
    kept = rng.permuted(np.broadcast_to(np.array([True, True, False, False]), codes.shape), axis=-1)
    codes = np.where(kept, codes, 0).astype(np.uint8).reshape(*packed.shape[:-1], -1)
    return codes[..., ::2] | codes[..., 1::2] << 4


def tile(packed: np.ndarray, scales: np.ndarray) -> bytes:
    """The 1792 bytes of one tile of 2:4, byte by byte as kernels/README.md has them.

    Args:
        packed: [16, 128], low nibble first.
        scales: [16, 16].
    """
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(16, 16, 4, 4)  # row, block, quad, place

    def stored(row: int, block: int, quad: int) -> list[tuple[int, int]]:
        """(place, code) of two: values before -0, -0 before +0, and otherwise from the left."""
        four = [int(c) for c in codes[row, block, quad]]
        rank = {place: 0 if code & 7 else 1 if code == 8 else 2 for place, code in enumerate(four)}
        first = sorted(range(4), key=lambda place: (rank[place], place))[:2]
        return [(place, four[place]) for place in sorted(first)]

    out = bytearray(1792)
    for row in range(16):
        octet, g = divmod(row, 8)
        for block in range(16):
            step, t = divmod(block, 4)
            out[1536 + g * 32 + t // 2 * 16 + step * 4 + octet * 2 + t % 2] = scales[row, block]
            for quad in range(4):
                (left, a), (right, b) = stored(row, block, quad)
                word = octet * 512 + (g * 4 + t) * 16 + step * 4
                out[word + quad // 2] |= a << quad % 2 * 4
                out[word + 2 + quad // 2] |= b << quad % 2 * 4
                word = 1024 + (g * 4 + quad) * 16 + step * 4 + octet * 2
                out[word + t // 2] |= (left | right << 2) << t % 2 * 4
    return bytes(out)


def tiles(packed: np.ndarray, scales: np.ndarray, halves: bool) -> np.ndarray:
    """[experts, rows, k / 2] to [experts, rows / 16, k / 256, 1792]; `halves`: eight rows a tile of each."""
    experts, rows, half_k = packed.shape
    out = np.empty((experts, rows // 16, half_k // 128, 1792), np.uint8)
    for e, r, s in np.ndindex(out.shape[:3]):
        first = np.arange(8) + r * (8 if halves else 16)
        at = np.concatenate([first, first + (rows // 2 if halves else 8)])
        cut = packed[e, at, s * 128 : s * 128 + 128], scales[e, at, s * 16 : s * 16 + 16]
        out[e, r, s] = np.frombuffer(tile(*cut), np.uint8)
    return out


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 64 bytes, whose end lies within 63 bytes of memory that nobody may touch."""
    room = -(-array.nbytes // 64) * 64
    pages = -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    buffer = np.frombuffer(memory, np.uint8)
    guard = ctypes.c_void_p(buffer.ctypes.data + pages)
    assert _libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    out = buffer[pages - room : pages - room + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


def e2m1_codes(values: np.ndarray) -> np.ndarray:
    """PTX's cvt.rn.satfinite.e2m1: the nearest value, ties to the even code, -0 kept, NaN to +6."""
    magnitude = np.abs(values.astype(np.float64))
    finite = np.where(np.isnan(magnitude), 0, np.minimum(magnitude, 6.0))
    distance = np.abs(finite[..., None] - E2M1[:8])
    nearest = distance.min(-1, keepdims=True)
    ties = distance == nearest
    even = np.arange(8) % 2 == 0
    code = np.where((ties & even).any(-1), (ties & even).argmax(-1), ties.argmax(-1))
    return np.where(np.isnan(values), 7, code + 8 * np.signbit(values)).astype(np.uint8)


def e4m3_codes(values: np.ndarray) -> np.ndarray:
    """The nearest E4M3, ties to the even code, saturating; for values that are not negative."""
    table = e4m3(np.arange(127))
    clipped = np.minimum(values.astype(np.float64), 448.0)
    above = np.searchsorted(table, clipped)
    below = np.maximum(above - 1, 0)
    up, down = table[above] - clipped, clipped - table[below]
    return np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below).astype(np.uint8)
