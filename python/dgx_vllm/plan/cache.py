"""Cache: what vLLM's KV cache holds for each sequence, in the blocks in which vLLM hands it out.

The arithmetic is vLLM 0.32's: platforms/interface.py (_align_hybrid_block_size), v1/kv_cache_interface.py
(max_memory_usage_bytes of each spec) and v1/core/kv_cache_utils.py (_get_kv_cache_groups_uniform_page_size).
tests/plan/test_cache.py holds it against those functions.
"""

import math
from dataclasses import dataclass, replace

from dgx_vllm.host.machine import Platform
from dgx_vllm.plan import dtypes
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent
from dgx_vllm.util.errors import UserError

#: Tokens in a block where no recurrent state asks for more: vLLM's default, and its CPU backend's.
BLOCK_TOKENS: dict[Platform, int] = {"cuda": 16, "cpu": 128}

#: Of --kv-cache-dtype, those whose bytes are known here.
DTYPES = (
    *("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"),
    *("nvfp4", "nvfp4_4over6"),
)


@dataclass(frozen=True)
class Options:
    """The settings of vLLM that change what a sequence needs.

    Args:
        cache_dtype: --kv-cache-dtype, already resolved where the checkpoint asks for one.
        state_dtype: --mamba-ssm-cache-dtype.
        drafts: speculative tokens per step.
        prefix_caching: vLLM's default is on; GDN and Mamba layers then keep a second state.
        batched_tokens: --max-num-batched-tokens, which sliding windows hold on top.
        platform: whose block sizes.
    """

    cache_dtype: str = "auto"
    state_dtype: str = "auto"
    drafts: int = 0
    prefix_caching: bool = True
    batched_tokens: int = 2048
    platform: Platform = "cuda"


@dataclass(frozen=True)
class Group:
    """Layers that share a block table.

    Args:
        tokens: tokens in a block, None for a state, whose size no length changes.
        blocks: the most per sequence: of a state always, of a window at full length; None without limit.
    """

    tokens: int | None
    blocks: int | None = None

    def needed(self, context: int) -> int:
        """Blocks that a sequence of so many tokens holds at most."""
        if self.tokens is None:
            assert self.blocks is not None
            return self.blocks
        if self.blocks is None:
            return math.ceil(context / self.tokens)
        # A window begins anywhere in a block: one more than its tokens fill.
        return min(math.ceil(context / self.tokens) + 1, self.blocks)


@dataclass(frozen=True)
class Cache:
    """What sequences keep.

    Args:
        token_bytes: keys and values of one token, all layers that keep every token.
        window_bytes: the same of layers that keep a window.
        window: tokens in a window, 0 without.
        state_bytes: the recurrent states of one sequence, all layers, without padding.
        conv_bytes: of which inputs of short convolutions.
        block_bytes: one block of a group.
        groups: the block tables.
    """

    token_bytes: int
    window_bytes: int
    window: int
    state_bytes: int
    conv_bytes: int
    block_bytes: int
    groups: tuple[Group, ...]

    def blocks(self, context: int) -> int:
        """Blocks that one sequence of `context` tokens holds."""
        return sum(group.needed(context) for group in self.groups)

    def sequence_bytes(self, context: int) -> int:
        """What one sequence of `context` tokens takes from the KV cache, padding and all."""
        return self.blocks(context) * self.block_bytes

    def needed(self, context: int, sequences: int) -> int:
        """The KV cache's size for so many sequences; one block of it vLLM never gives away."""
        return (self.blocks(context) * sequences + 1) * self.block_bytes if self.groups else 0

    def sequences(self, budget: int, context: int) -> int:
        """How many sequences of `context` tokens a KV cache of `budget` bytes holds at once."""
        if not self.groups:
            return 0
        return max(budget // self.block_bytes - 1, 0) // self.blocks(context)

    def longest(self, budget: int) -> int:
        """The longest context, in tokens, that one sequence can have in `budget` bytes; 0 if none."""
        low, high = 0, 2**24
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.sequences(budget, middle) else (low, middle - 1)
        return low


def of(architecture: Architecture, options: Options) -> Cache:
    """A model's cache under the given settings.

    Raises:
        UserError: a dtype that is unknown here, or no layer that keeps anything.
    """
    kinds = list(architecture.attention)
    if options.drafts and architecture.draft:
        kinds = _with_draft(kinds, architecture.draft)
    recurrent = architecture.recurrent
    tokens = {kind: _token_bytes(kind, architecture.dtype, options) for kind in kinds}
    conv, state = _state_bytes(recurrent, architecture, options) if recurrent else (0, 0)
    size = BLOCK_TOKENS[options.platform]
    if recurrent and kinds:
        size *= math.ceil((conv + state) / (size * max(tokens.values())))
    counts = [kind.layers for kind in kinds] + ([recurrent.layers] if recurrent else [])
    if not counts:
        return Cache(0, 0, 0, 0, 0, 0, ())
    page = size * max(tokens.values()) if kinds else conv + state
    layers = _group_size(counts)
    groups: list[Group] = []
    for kind in kinds:
        limit = _window_blocks(kind.window, size, options) if kind.window else None
        groups += [Group(size, limit)] * math.ceil(kind.layers / layers)
    if recurrent:
        # One state, another for the prefix cache's block, and one for each draft that may be taken back.
        copies = (2 if options.prefix_caching else 1) + options.drafts
        groups += [Group(None, copies)] * math.ceil(recurrent.layers / layers)
    windows = [kind for kind in kinds if kind.window]
    return Cache(
        token_bytes=sum(tokens[kind] * kind.layers for kind in kinds if not kind.window),
        window_bytes=sum(tokens[kind] * kind.layers for kind in windows),
        window=max((kind.window or 0 for kind in windows), default=0),
        state_bytes=(conv + state) * recurrent.layers if recurrent else 0,
        conv_bytes=conv * recurrent.layers if recurrent else 0,
        block_bytes=page * layers,
        groups=tuple(groups),
    )


def _with_draft(kinds: list[Attention], draft: Attention) -> list[Attention]:
    """MTP layers keep every token, as full attention does."""
    alike = replace(draft, layers=0)
    full = [kind for kind in kinds if not kind.window]
    rest = [kind for kind in kinds if kind.window]
    same = sum(kind.layers for kind in full if replace(kind, layers=0) == alike)
    others = [kind for kind in full if replace(kind, layers=0) != alike]
    return [replace(draft, layers=same + draft.layers), *others, *rest]


def _group_size(counts: list[int]) -> int:
    """Layers in a group: as many as the rarest kind has, or the commonest if that is hardly more."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _window_blocks(window: int, size: int, options: Options) -> int:
    # Asynchronous scheduling, vLLM's default, has two batches in flight (VllmConfig.max_in_flight_tokens).
    return math.ceil((window - 1 + 2 * options.batched_tokens) / size) + 1


def _token_bytes(kind: Attention, dtype: str, options: Options) -> int:
    """Key and value of one token in one layer."""
    numbers = 2 * kind.heads * kind.head_size
    name = options.cache_dtype
    if name not in DTYPES:
        raise UserError(
            f"the KV cache's dtype {name!r} is unknown (known: {', '.join(DTYPES)}); give one of them with "
            "--kv-cache-dtype"
        )
    if name.startswith("nvfp4"):
        return numbers // 2 + numbers // 16  # an E4M3 scale for 16 numbers
    if name.startswith("fp8"):
        return numbers
    return numbers * (_model_bytes(dtype) if name == "auto" else _bytes(name))


def _state_bytes(recurrent: Recurrent, architecture: Architecture, options: Options) -> tuple[int, int]:
    """One layer's convolution inputs and recurrent state; drafts lengthen the former."""
    conv = recurrent.channels * (recurrent.kernel - 1 + options.drafts) * _model_bytes(architecture.dtype)
    dtype = options.state_dtype
    if dtype == "auto":
        dtype = recurrent.dtype or architecture.dtype
    return conv, math.prod(recurrent.state) * _bytes(dtype)


def _model_bytes(dtype: str) -> int:
    """Bytes of a number that the model computes with.

    Raises:
        UserError: its config names a dtype that torch has not.
    """
    if dtype not in dtypes.BYTES:
        raise UserError(
            f"the model's config.json names the dtype {dtype!r}, which torch does not have; "
            "write one such as bfloat16 there"
        )
    return dtypes.BYTES[dtype]


def _bytes(dtype: str) -> int:
    if dtype not in dtypes.BYTES:
        raise UserError(
            f"the dtype {dtype!r} of a state is unknown (known: {', '.join(dtypes.BYTES)}); give one with "
            "--mamba-ssm-cache-dtype"
        )
    return dtypes.BYTES[dtype]
