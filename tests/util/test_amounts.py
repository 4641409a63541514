"""Amounts of memory as people write them."""

import pytest

from dgx_vllm.util.amounts import parse
from dgx_vllm.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("59.8GB", 59_800_000_000),
        ("111 GiB", 111 * 2**30),
        ("1.5g", 1_500_000_000),
        ("2mib", 2 * 2**20),
        ("8000000000", 8_000_000_000),
        ("0", 0),
    ],
)
def test_an_amount_is_read_as_bytes(text: str, count: int) -> None:
    assert parse(text, "--memory-reserve") == count


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "8 apples", "1e9", "8GBs"])
def test_text_that_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not an amount of memory"):
        parse(text, "--memory-reserve")


@pytest.mark.parametrize("text", ["8", "59.8", "999999"])
def test_a_number_without_a_unit_is_not_taken_for_bytes(text: str) -> None:
    """A reserve of eight bytes would protect nothing."""
    with pytest.raises(UserError, match=f"write it like {text}GB"):
        parse(text, "--memory-reserve")
