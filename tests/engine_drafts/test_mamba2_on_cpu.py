"""What vLLM's CPU operators for Mamba2 do with drafts.

When they are right, the marks go, and mamba2.py too.
"""

import mamba2
import pytest
import torch
from torch import Tensor

SEQUENCES, TOKENS = 2, 4
_STARTS = torch.arange(SEQUENCES + 1, dtype=torch.int32) * TOKENS
_BLOCKS = torch.arange(1, 1 + SEQUENCES * TOKENS, dtype=torch.int32).view(SEQUENCES, TOKENS)
_ACCEPTED = torch.tensor([3, 1], dtype=torch.int32)


@pytest.fixture(autouse=True)
def on_cpu() -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("vLLM's CPU build only")


def normal(*shape: int) -> Tensor:
    values: Tensor = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return values


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="mamba/ops/cpu/causal_conv1d.py drops num_accepted_tokens"
)
def test_the_convolution_starts_after_the_last_accepted_token() -> None:
    from vllm.model_executor.layers.mamba.ops.cpu.causal_conv1d import causal_conv1d_update_cpu

    channels, width = 64, 4
    x = normal(SEQUENCES * TOKENS, channels).bfloat16()
    state = normal(1 + SEQUENCES * TOKENS, channels, width - 1 + TOKENS - 1).bfloat16()
    weight, bias = normal(channels, width).bfloat16(), normal(channels).bfloat16()
    options = {
        "conv_state_indices": _BLOCKS,
        "num_accepted_tokens": _ACCEPTED,
        "query_start_loc": _STARTS,
    }
    expected = mamba2.causal_conv1d_update(x, state.clone(), weight, bias, "silu", **options)
    got = causal_conv1d_update_cpu(x.clone(), state.clone(), weight, bias, "silu", **options)
    assert torch.allclose(got.float(), expected.float(), atol=0.1)


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="_C.selective_state_update_cpu keeps a wrong state after the first token",
)
def test_the_recurrence_keeps_the_state_after_each_token() -> None:
    from vllm.model_executor.layers.mamba.ops.cpu.mamba_ssm import selective_state_update

    heads, width, states, groups = 4, 64, 64, 2
    tokens = SEQUENCES * TOKENS
    state = normal(1 + tokens, heads, width, states)
    x, b, c = (
        normal(tokens, heads, width).bfloat16(),
        normal(tokens, groups, states).bfloat16(),
        normal(tokens, groups, states).bfloat16(),
    )
    dt = normal(tokens, heads).bfloat16()[..., None].expand(-1, -1, width)
    a = -torch.exp(normal(heads))[:, None, None].expand(-1, width, states)
    d, dt_bias = (normal(heads)[:, None].expand(-1, width) for _ in range(2))
    results = []
    for update in (mamba2.selective_state_update, selective_state_update):
        kept, out = state.clone(), torch.zeros_like(x)
        update(
            kept,
            x,
            dt,
            a,
            b,
            c,
            d,
            dt_bias=dt_bias,
            dt_softplus=True,
            state_batch_indices=_BLOCKS,
            dst_state_batch_indices=_BLOCKS,
            out=out,
            num_accepted_tokens=_ACCEPTED,
            cu_seqlens=_STARTS,
        )
        results.append((kept, out))
    (expected, expected_out), (kept, out) = results
    torch.testing.assert_close(out.float(), expected_out.float(), rtol=0.02, atol=0.1)
    torch.testing.assert_close(kept[_BLOCKS[:, 1:]], expected[_BLOCKS[:, 1:]], rtol=0.01, atol=0.01)
    torch.testing.assert_close(kept[_BLOCKS[:, 0]], expected[_BLOCKS[:, 0]], rtol=0.01, atol=0.01)
