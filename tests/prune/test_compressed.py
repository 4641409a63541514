"""The compressed form: every group there can be, and the layout word by word."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_reference import expanded

from dgx_vllm.formats.nvfp4 import pack, unpack
from dgx_vllm.formats.nvfp4.compressed import Compressed, compress, expand, follows
from dgx_vllm.formats.nvfp4.sparsity_pattern import PAIRS, TWO_OF_FOUR, Pattern

PLACES = list(itertools.combinations(range(4), 2))
BOTH = pytest.mark.parametrize("pattern", [TWO_OF_FOUR, PAIRS], ids=lambda pattern: pattern.name)


def packed(groups: list[list[int]]) -> torch.Tensor:
    """Groups of codes as one row."""
    return pack(torch.tensor(groups, dtype=torch.uint8).reshape(1, -1))


def as_numbers(weight: torch.Tensor) -> torch.Tensor:
    """Codes with -0 as +0."""
    codes = unpack(weight)
    return torch.where(codes == 8, torch.zeros_like(codes), codes)


def test_every_pair_of_places_and_codes_comes_back() -> None:
    groups = []
    for (i, j), a, b in itertools.product(PLACES, range(16), range(16)):
        group = [0] * 4
        group[i], group[j] = a, b
        groups.append(group)
    weight = packed(groups)
    assert torch.equal(expand(compress(weight, TWO_OF_FOUR), TWO_OF_FOUR), weight)


def test_every_pair_of_pairs_comes_back() -> None:
    # All 256 bytes in one pair, a few in the other, in all places.
    groups = []
    for (i, j), a, b in itertools.product(PLACES, range(256), (0x00, 0x80, 0x08, 0x31, 0xFF)):
        pairs = [[0, 0] for _ in range(4)]
        pairs[i], pairs[j] = [a & 15, a >> 4], [b & 15, b >> 4]
        groups.append([code for pair in pairs for code in pair])
    weight = packed(groups)
    assert torch.equal(expand(compress(weight, PAIRS), PAIRS), weight)


@BOTH
def test_every_compressed_group_expands_as_the_layout_says(pattern: Pattern) -> None:
    rows = list(itertools.product([i | j << 2 for i, j in PLACES], range(256)))
    places = torch.tensor([[place, place] for place, _ in rows], dtype=torch.uint8)
    codes = torch.tensor([[byte ^ 0x5A, byte] * pattern.run for _, byte in rows], dtype=torch.uint8)
    got = unpack(expand(Compressed(codes, pack(places)), pattern))
    for row in range(len(rows)):
        wanted = expanded(bytes(codes[row].tolist()), bytes(pack(places)[row].tolist()), pattern.run)
        assert got[row].tolist() == wanted


@BOTH
@given(data=st.data())
@settings(deadline=None)
def test_what_is_stored_is_canonical(pattern: Pattern, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 16, (3, 8, 4, pattern.run)).astype(np.uint8)
    kept = rng.permuted(np.tile([True, True, False, False], (3, 8, 1)), axis=-1)
    dense = torch.from_numpy((groups * kept[..., None]).reshape(3, -1))
    weight = pack(dense)
    form = compress(weight, pattern)
    assert form.codes.shape[-1] * 4 == dense.shape[-1]
    assert form.positions.shape[-1] * 8 * pattern.run == dense.shape[-1]
    assert torch.equal(as_numbers(expand(form, pattern)), as_numbers(weight))
    allowed = {0b0100, 0b1000, 0b1100, 0b1001, 0b1101, 0b1110}
    assert set(unpack(form.positions).flatten().tolist()) <= allowed
    again = compress(expand(form, pattern), pattern)
    assert torch.equal(again.codes, form.codes)
    assert torch.equal(again.positions, form.positions)


def test_bits_a_weight() -> None:
    weight = torch.zeros(1, 64, dtype=torch.uint8)
    for pattern, bits in ((TWO_OF_FOUR, 3.0), (PAIRS, 2.5)):
        form = compress(weight, pattern)
        assert 8 * (form.codes.numel() + form.positions.numel()) / 128 == bits


@BOTH
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_third_value_is_refused(pattern: Pattern, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.zeros((4, 4, pattern.run), np.uint8)
    groups[rng.integers(4), rng.permutation(4)[:3], 0] = rng.choice([c for c in range(16) if c % 8], 3)
    weight = pack(torch.from_numpy(groups.reshape(1, -1)))
    assert not follows(weight, pattern)
    with pytest.raises(ValueError, match="more than two of four"):
        compress(weight, pattern)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        compress(torch.zeros(1, 2, dtype=torch.uint8), TWO_OF_FOUR)
    codes = torch.zeros(1, 4, dtype=torch.uint8)
    for place in set(range(16)) - {i | j << 2 for i, j in PLACES}:
        positions = torch.full((1, 2), place | place << 4, dtype=torch.uint8)
        with pytest.raises(ValueError, match="ascend"):
            expand(Compressed(codes, positions), TWO_OF_FOUR)
    with pytest.raises(ValueError, match="not of one matrix"):
        expand(Compressed(codes, torch.full((1, 3), 0x44, dtype=torch.uint8)), TWO_OF_FOUR)
