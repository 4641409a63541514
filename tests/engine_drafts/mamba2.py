"""Mamba2's two operators that take drafts into account, in torch, as vLLM's Triton kernels compute them.

vLLM's own for the CPU are wrong with drafts (test_mamba2_on_cpu.py). With these in their places, an engine
on the CPU shows whether vLLM hands the right states to the right requests.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    conv_state_indices: Tensor,
    num_accepted_tokens: Tensor,
    query_start_loc: Tensor,
    **_: Any,
) -> Tensor:
    """The convolution over each sequence's newest tokens: [tokens, channels] in x's dtype.

    A sequence's state begins with the inputs before its last accepted token, and is overwritten.

    Args:
        x: [tokens, channels], all sequences' tokens one after another.
        conv_state: [blocks, channels, width - 1 + drafts].
        weight, bias: [channels, width] and [channels].
        activation: "silu" or None.
        conv_state_indices: [sequences, 1 + drafts], of which the first is the state's block.
        num_accepted_tokens: [sequences], of the step before, the token that the target gave included.
        query_start_loc: [sequences + 1], where each sequence's tokens begin.
    """
    out = torch.empty_like(x)
    for sequence, (start, end) in enumerate(_ranges(query_start_loc)):
        state = conv_state[int(conv_state_indices[sequence, 0])]
        first = int(num_accepted_tokens[sequence]) - 1
        inputs = torch.cat([state[:, first : first + weight.shape[1] - 1], x[start:end].T], dim=1)
        convolved = conv1d(inputs[None], weight[:, None], bias, groups=weight.shape[0])[0].T
        out[start:end] = silu(convolved) if activation else convolved
        state[:, : inputs.shape[1] - 1] = inputs[:, 1:]
    return out


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    dt_bias: Tensor,
    *,
    state_batch_indices: Tensor,
    dst_state_batch_indices: Tensor,
    out: Tensor,
    num_accepted_tokens: Tensor,
    cu_seqlens: Tensor,
    **_: Any,
) -> None:
    """The recurrence over each sequence's newest tokens; the state after each of them is kept.

    Args:
        state: [blocks, heads, width, states], overwritten where `dst_state_batch_indices` says.
        x, dt, out: [tokens, heads, width]; out is written.
        a: [heads, width, states].
        b, c: [tokens, groups, states].
        d, dt_bias: [heads, width].
        state_batch_indices, dst_state_batch_indices: [sequences, 1 + drafts]. The state after the last
            accepted token is read from the one, and that after each token is written to the other.
        num_accepted_tokens, cu_seqlens: as `num_accepted_tokens` and `query_start_loc` above.
    """
    heads_per_group = x.shape[1] // b.shape[1]
    for sequence, (start, end) in enumerate(_ranges(cu_seqlens)):
        accepted = int(num_accepted_tokens[sequence])
        now = state[int(state_batch_indices[sequence, accepted - 1])].float()
        for step, token in enumerate(range(start, end)):
            delta = softplus(dt[token].float() + dt_bias.float())
            inputs, outputs = (side[token].float().repeat_interleave(heads_per_group, 0) for side in (b, c))
            now = now * torch.exp(a * delta[..., None])
            now = now + inputs[:, None] * (delta * x[token].float())[..., None]
            out[token] = (now * outputs[:, None]).sum(-1) + d.float() * x[token].float()
            state[int(dst_state_batch_indices[sequence, step])] = now


def _ranges(starts: Tensor) -> list[tuple[int, int]]:
    positions = starts.tolist()
    return list(itertools.pairwise(positions))
