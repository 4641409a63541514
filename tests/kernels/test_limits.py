"""Python's limits are those that the kernels' headers state."""

import re

import pytest
from emulation import KERNELS

from dgx_vllm.kernels import limits


def constant(header: str, name: str) -> int:
    """The number that a header gives a constant."""
    text = (KERNELS / header).read_text(encoding="utf-8")
    values = re.findall(rf"^constexpr int {name} = (\d+);", text, re.MULTILINE)
    assert len(values) == 1, f"{header} defines {name} {len(values)} times"
    return int(values[0])


@pytest.mark.parametrize("header", ["moe_layer.cuh", "linear_decode.cuh"])
def test_max_tokens_is_that_of_the_kernels(header: str) -> None:
    assert constant(header, "kMaxTokens") == limits.MAX_TOKENS


def test_max_hidden_is_that_of_the_kernels() -> None:
    assert constant("moe_gate_up.cuh", "kMaxHidden") == limits.MAX_HIDDEN


def test_max_experts_per_token_is_a_token_s_share_of_the_kernels_slots() -> None:
    slots = constant("moe_layer.cuh", "kMaxSlots")
    assert divmod(slots, limits.MAX_TOKENS) == (limits.MAX_EXPERTS_PER_TOKEN, 0)


def test_dim_multiple_is_half_a_chunk_of_the_kernels() -> None:
    assert constant("common/nvfp4_rows.cuh", "kChunk") == 2 * limits.DIM_MULTIPLE
