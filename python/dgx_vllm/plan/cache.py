"""Cache: what vLLM's KV cache holds for each sequence, in the blocks in which vLLM hands it out.

The arithmetic is vLLM 0.32's: platforms/interface.py (_align_hybrid_block_size), v1/kv_cache_interface.py
(max_memory_usage_bytes of each spec) and v1/core/kv_cache_utils.py (_get_kv_cache_groups_uniform_page_size).
tests/plan/test_cache.py holds it against those functions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dgx_vllm.host.machine import Platform
from dgx_vllm.plan import dtypes
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent
from dgx_vllm.util.errors import UserError

#: Tokens in a block where no recurrent state asks for more: vLLM's default, and its CPU backend's.
BLOCK_TOKENS: dict[Platform, int] = {"cuda": 16, "cpu": 128}

#: The largest block of FlashInfer's kernels on a GB10 (v1/attention/backends/flashinfer.py).
_FLASHINFER_BLOCK = 64

#: Families whose recurrent layers are Mamba 2.
_MAMBA2 = ("nemotron_h",)

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
        window_block: tokens in the largest block that the kernel of sliding windows takes, None where it
            takes any; see the function of that name.
    """

    cache_dtype: str = "auto"
    state_dtype: str = "auto"
    drafts: int = 0
    prefix_caching: bool = True
    batched_tokens: int = 2048
    platform: Platform = "cuda"
    window_block: int | None = None


def window_block(cache_dtype: str, backend: str | None) -> int | None:
    """Tokens in the largest block of a sliding window that an attention backend takes on a GB10.

    Args:
        cache_dtype: the KV cache's, which decides where no backend is named: of those that vLLM prefers on
            CUDA, FLASH_ATTN reads no FP8 there.
        backend: --attention-backend, or the drafts' own, None for vLLM's choice.

    Returns:
        None for a backend that takes any multiple of 16 (FLASH_ATTN, TRITON_ATTN).
    """
    named = (backend or "auto").upper()
    if named == "AUTO":
        named = "FLASHINFER" if cache_dtype.startswith(("fp8", "nvfp4")) else "FLASH_ATTN"
    return _FLASHINFER_BLOCK if named == "FLASHINFER" else None


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
        windows: the same of layers that keep a window, by the tokens in it.
        state_bytes: the recurrent states of one sequence, all layers, without padding.
        conv_bytes: of which inputs of short convolutions.
        block_bytes: one block of a group.
        groups: the block tables.
        drafter: keys and values of one token, of those layers that draft, by the tokens in their window; None
            for all tokens.
    """

    token_bytes: int
    windows: tuple[tuple[int, int], ...]
    state_bytes: int
    conv_bytes: int
    block_bytes: int
    groups: tuple[Group, ...]
    drafter: tuple[tuple[int | None, int], ...] = ()

    @property
    def window(self) -> int:
        """Tokens in the widest window, 0 without."""
        return max((window for window, _ in self.windows), default=0)

    @property
    def window_bytes(self) -> int:
        """Keys and values of one token, all layers that keep a window."""
        return sum(size for _, size in self.windows)

    def read(self, context: int) -> int:
        """Bytes of keys and values that a token of a sequence of `context` tokens reads."""
        kept = sum(size * min(context, window) for window, size in self.windows)
        return self.token_bytes * context + kept

    def read_to_draft(self, context: int) -> int:
        """The part of `read` that the layers that draft read, which may run several times in a step."""
        return sum(size * min(context, window or context) for window, size in self.drafter)

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


def of(architecture: Architecture, options: Options, drafter: Sequence[Attention] | None = None) -> Cache:
    """A model's cache under the given settings.

    Args:
        architecture: the model.
        options: the settings.
        drafter: the layers of what drafts, where there are drafts; None for the model's own MTP layers, which
            keep every token as full attention does.

    Raises:
        UserError: a dtype that is unknown here, or no layer that keeps anything.
    """
    if drafter is None:
        drafter = (architecture.draft,) if architecture.draft else ()
    own, recurrent = architecture.attention, architecture.recurrent
    drafting = tuple(drafter) if options.drafts else ()
    kinds = _merged([*own, *drafting])

    def tokens_of(kind: Attention) -> int:
        return _token_bytes(kind, architecture.dtype, options)

    tokens = {kind: tokens_of(kind) for kind in kinds}
    conv, state = _state_bytes(recurrent, architecture, options) if recurrent else (0, 0)
    if not kinds and not recurrent:
        return Cache(0, (), 0, 0, 0, ())
    size = BLOCK_TOKENS[options.platform]
    if recurrent and own:
        # vLLM looks at the model's own layers alone, whatever drafts.
        size *= math.ceil((conv + state) / (size * max(tokens_of(kind) for kind in own)))
    groups, block_bytes = (
        _one_table(tokens, size, options)
        if not recurrent and len({kind.window for kind in kinds}) == 1
        else _tables(tokens, size, conv + state, recurrent, _copies(architecture, options), options)
    )
    return Cache(
        token_bytes=sum(tokens[kind] * kind.layers for kind in kinds if not kind.window),
        windows=tuple((kind.window, tokens[kind] * kind.layers) for kind in kinds if kind.window),
        state_bytes=(conv + state) * recurrent.layers if recurrent else 0,
        conv_bytes=conv * recurrent.layers if recurrent else 0,
        block_bytes=block_bytes,
        groups=tuple(groups),
        drafter=tuple((kind.window, tokens_of(kind) * kind.layers) for kind in drafting),
    )


def _copies(architecture: Architecture, options: Options) -> int:
    """States of a sequence: its own, one for each draft that may be taken back, and the prefix cache's.

    The latter are one at a block's end and, of Mamba 2, one within a prompt (mamba_mixer2.py).
    """
    kept = (2 if architecture.family in _MAMBA2 else 1) if options.prefix_caching else 0
    return 1 + options.drafts + kept


def _merged(kinds: Sequence[Attention]) -> list[Attention]:
    """The kinds with layers that are alike counted together."""
    counts: dict[Attention, int] = {}
    for kind in kinds:
        alike = replace(kind, layers=0)
        counts[alike] = counts.get(alike, 0) + kind.layers
    return [replace(alike, layers=layers) for alike, layers in counts.items()]


def _one_table(tokens: Mapping[Attention, int], size: int, options: Options) -> tuple[list[Group], int]:
    """Layers that all keep the same tokens share one table, however wide each is: UniformTypeKVCacheSpecs."""
    window = next(iter(tokens)).window
    limit = _window_blocks(window, size, options) if window else None
    return [Group(size, limit)], size * sum(tokens[kind] * kind.layers for kind in tokens)


def _tables(
    tokens: Mapping[Attention, int],
    size: int,
    state: int,
    recurrent: Recurrent | None,
    copies: int,
    options: Options,
) -> tuple[list[Group], int]:
    """Tables of as many layers each, whose pages are all as large as the largest.

    A layer with a smaller page takes more tokens into it, where that fills it, or leaves the rest empty
    (unify_kv_cache_spec_page_size).
    """
    blocks = {kind: min(size, options.window_block or size) if kind.window else size for kind in tokens}
    pages = {kind: blocks[kind] * tokens[kind] for kind in tokens}
    page = max([*pages.values(), state])
    layers = _group_size([kind.layers for kind in tokens] + ([recurrent.layers] if recurrent else []))
    groups: list[Group] = []
    for kind in tokens:
        block = blocks[kind] * (page // pages[kind] if page % pages[kind] == 0 else 1)
        limit = _window_blocks(kind.window, block, options) if kind.window else None
        groups += [Group(block, limit)] * math.ceil(kind.layers / layers)
    if recurrent:
        groups += [Group(None, copies)] * math.ceil(recurrent.layers / layers)
    return groups, page * layers


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
