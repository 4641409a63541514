"""E2M1 against ml_dtypes, which shares no code with ours."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.formats.nvfp4 import decode, e2m1, encode, pack, unpack

NUMPY = {torch.bfloat16: ml_dtypes.bfloat16, torch.float16: np.float16}


def reference_codes(values: np.ndarray) -> np.ndarray:
    """ml_dtypes' codes, for values without NaN."""
    return values.astype(np.float32).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)


def every_bit_pattern(dtype: torch.dtype) -> tuple[torch.Tensor, np.ndarray]:
    """All 65536 values of a 16-bit dtype, for torch and for numpy."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    return torch.from_numpy(bits.view(np.int16)).view(dtype), bits.view(NUMPY[dtype])


def mismatches(dtype: torch.dtype) -> int:
    """How many of all bit patterns that are not NaN our encoder and ml_dtypes disagree on."""
    ours, theirs = every_bit_pattern(dtype)
    numbers = ~np.isnan(theirs.astype(np.float32))
    return int((encode(ours).numpy()[numbers] != reference_codes(theirs[numbers])).sum())


@pytest.mark.parametrize("dtype", NUMPY)
def test_every_16_bit_value_encodes_as_in_ml_dtypes(dtype: torch.dtype) -> None:
    assert mismatches(dtype) == 0


@pytest.mark.parametrize("dtype", NUMPY)
def test_nan_of_either_sign_becomes_plus_six(dtype: torch.dtype) -> None:
    ours, theirs = every_bit_pattern(dtype)
    nan = np.isnan(theirs.astype(np.float32))
    signs = {bool(s) for s in np.signbit(theirs[nan].astype(np.float32))}
    assert signs == {True, False}
    assert set(encode(ours).numpy()[nan].tolist()) == {7}


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=64))
def test_any_float32_encodes_as_in_ml_dtypes(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(encode(torch.from_numpy(array)).numpy(), reference_codes(array))


@pytest.mark.parametrize("dtype", NUMPY)
def test_the_nearest_value_is_its_codes(dtype: torch.dtype) -> None:
    """Signs of zeros included: all values of 16 bits, which hold every tie, and what is beside a tie."""
    values = every_bit_pattern(dtype)[0].float()
    values = values[values.isfinite()]
    up, down = (torch.nextafter(values, torch.full_like(values, to)) for to in (1e9, -1e9))
    for each in (values, up, down):
        each = each[each.isfinite()]
        exact = decode(encode(each))
        assert torch.equal(e2m1.nearest(each).view(torch.int32), exact.view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_ties_go_to_the_even_code_and_their_neighbours_do_not(dtype: torch.dtype) -> None:
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=dtype)
    even = torch.tensor([0, 2, 2, 4, 4, 6, 6], dtype=torch.uint8)
    lower = torch.arange(7, dtype=torch.uint8)
    for sign, bit in ((1, 0), (-1, 8)):
        assert torch.equal(encode(sign * ties), even | bit)
        # One unit of bfloat16 in relative terms moves every dtype off the tie.
        assert torch.equal(encode(sign * ties * (1 - 2**-7)), lower | bit)
        assert torch.equal(encode(sign * ties * (1 + 2**-7)), (lower + 1) | bit)


def test_double_rounding_does_not_happen() -> None:
    # Rounded to float32 first, this would be the tie 2.5 and go down to 2.
    just_above = torch.tensor([2.5 + 2**-40], dtype=torch.float64)
    assert encode(just_above).item() == 5


def test_saturation_and_signed_zero() -> None:
    values = torch.tensor([float("inf"), float("-inf"), 1e30, -1e30, 0.0, -0.0, -1e-30])
    assert encode(values).tolist() == [7, 15, 7, 15, 0, 8, 8]
    zero = decode(torch.tensor([8], dtype=torch.uint8))
    assert zero.item() == 0
    assert torch.signbit(zero).item()


def test_decode_is_ml_dtypes_table() -> None:
    codes = np.arange(16, dtype=np.uint8)
    expected = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    np.testing.assert_array_equal(decode(torch.from_numpy(codes)).numpy(), expected)


def test_decode_then_encode_is_the_identity() -> None:
    codes = torch.arange(16, dtype=torch.uint8)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(encode(decode(codes, dtype)), codes)


def test_even_index_lies_in_the_low_nibble() -> None:
    assert pack(torch.tensor([[0x1, 0x2, 0xF, 0x0]], dtype=torch.uint8)).tolist() == [[0x21, 0x0F]]


def test_unpack_undoes_pack_for_every_byte() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pack(unpack(every)), every)
    assert unpack(every).shape == (512,)


def test_what_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        encode(torch.tensor([1]))
    with pytest.raises(ValueError, match="odd"):
        pack(torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(IndexError):
        decode(torch.tensor([16], dtype=torch.uint8))


@pytest.mark.parametrize("entry", range(1, 8))
def test_one_broken_table_entry_is_seen(entry: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = list(e2m1.MAGNITUDES)
    broken[entry] *= 1.125
    monkeypatch.setattr(e2m1, "MAGNITUDES", tuple(broken))
    assert mismatches(torch.bfloat16) > 0
    codes = np.arange(16, dtype=np.uint8)
    expected = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert not np.array_equal(decode(torch.from_numpy(codes)).numpy(), expected)
