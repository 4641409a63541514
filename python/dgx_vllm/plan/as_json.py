"""The JSON of `plan --json`. Sizes are in bytes, contexts in tokens, speeds in tokens per second."""

from typing import Literal

import msgspec

from dgx_vllm.checkpoints.sparsity import Sparsity
from dgx_vllm.plan import gb10
from dgx_vllm.plan.architecture import Unknown
from dgx_vllm.plan.decode_speed import Step
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.outlook import DRAFT_BATCHES, Drafting, Outlook


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of one part of the model in one precision.

    Args:
        part: such as `routed experts`.
        precision: such as `NVFP4`.
        draft: whether they are loaded to draft only.
        parameters: how many there are.
        bytes: what they take.
    """

    part: str
    precision: str
    draft: bool
    parameters: int
    bytes: int


class KvCache(msgspec.Struct, frozen=True, kw_only=True):
    """What a sequence keeps. The sizes are null where the config does not say.

    Args:
        dtype: of keys and values.
        at_most: whether the sizes are upper bounds, since the model's kind is not known.
        bytes_per_token: of layers that keep every token.
        window_bytes_per_token: of layers that keep a window.
        window: tokens in that window, 0 for none.
        state_bytes_per_sequence: recurrent and convolution states.
        block_bytes: one block of vLLM's paged cache.
    """

    dtype: str
    at_most: bool
    bytes_per_token: int | None
    window_bytes_per_token: int | None
    window: int | None
    state_bytes_per_sequence: int | None
    block_bytes: int | None


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """Memory beyond weights and KV cache.

    Args:
        what: what uses it.
        bytes: how much.
        why: the origin of the figure.
    """

    what: str
    bytes: int
    why: str


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How many sequences of one length fit into the KV cache.

    Args:
        context: tokens in each.
        sequence_bytes: what one takes.
        sequences: how many fit.
    """

    context: int
    sequence_bytes: int
    sequences: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """How the memory is divided.

    Args:
        available: bytes in all.
        origin: where that figure is from.
        reserve: bytes that stay free.
        weights: bytes of the weights that are loaded.
        overheads: what else is taken.
        kv_cache: bytes that are left for the KV cache; negative where the model does not fit.
        fits: sequences by length; empty where what they keep is unknown.
    """

    available: int
    origin: str
    reserve: int
    weights: int
    overheads: list[Overhead]
    kv_cache: int
    fits: list[Fit]


class PartBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What a decode step moves of one part of the model.

    Args:
        part: such as `routed experts`.
        precision: such as `NVFP4`.
        bytes: for one token of one sequence.
    """

    part: str
    precision: str
    bytes: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Decoding without drafts.

    Args:
        batch: sequences that are decoded together.
        bytes: what a step moves.
        experts: routed experts that a layer reads.
        bytes_only_tokens_per_second: of all sequences, if moving bytes were all that takes time.
        tokens_per_second: with overhead.
    """

    batch: int
    bytes: int
    experts: float
    bytes_only_tokens_per_second: float
    tokens_per_second: float


class BatchSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of all sequences that are decoded together."""

    batch: int
    tokens_per_second: float


class Drafts(msgspec.Struct, frozen=True, kw_only=True):
    """Decoding with a number of drafts.

    Args:
        by: what drafts, null without drafts.
        content: what is written, such as code or prose; null where the figure does not say.
        drafts: tokens that are drafted for each step, 0 among them.
        derived: whether `accepted` is derived from published figures of other numbers of drafts.
        accepted: tokens that a step yields for each sequence.
        bytes: what a step moves at batch 1.
        bytes_only_tokens_per_second: at batch 1, if moving bytes were all that takes time.
        tokens_per_second: at batch 1, with overhead.
        batches: with overhead, by batch.
    """

    by: str | None
    content: str | None
    drafts: int
    derived: bool
    accepted: float
    bytes: int
    bytes_only_tokens_per_second: float
    tokens_per_second: float
    batches: list[BatchSpeed]


class BestDrafts(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted best for a batch and a content.

    Args:
        content: what is written, such as code or prose; null where the figures do not say.
        batch: sequences that are decoded together.
        by: what drafts, null where no drafts are best.
        drafts: how many.
    """

    content: str | None
    batch: int
    by: str | None
    drafts: int


class PromptSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast prompts are read.

    Args:
        batched_tokens: tokens of a prompt that one step takes.
        tokens_per_second: of a prompt, without attention.
    """

    batched_tokens: int
    tokens_per_second: float


class Decode(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the model may decode.

    Args:
        predicted: true: none of it is measured.
        device: what it is predicted for.
        bandwidth: bytes per second that reading reaches there.
        overhead_seconds_per_layer: beyond reading, in each step.
        context: tokens in each sequence.
        bytes_by_part: what a step moves at batch 1.
        batches: speeds without drafts.
        drafts: speeds by what drafts, by content and by number of drafts; empty where nothing is known to
            draft.
        best_drafts: by content and batch.
        prompts: how fast prompts are read, by --max-num-batched-tokens.
    """

    predicted: Literal[True]
    device: str
    bandwidth: float
    overhead_seconds_per_layer: float
    context: int
    bytes_by_part: list[PartBytes]
    batches: list[Batch]
    drafts: list[Drafts]
    best_drafts: list[BestDrafts]
    prompts: list[PromptSpeed]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one model.

    Args:
        model: what the user called it.
        architecture: its family.
        quantization: the method, such as `modelopt`, or `none`.
        exact: whether the weights are those of the files rather than computed from config.json.
        known: whether its kind is known; if not, parts are identified by the names of tensors.
        unknown: what the config does not say.
        dtype: what it computes in.
        experts: routed experts in a layer.
        experts_per_token: routed experts that a token uses.
        sparsity: the zeros of a pruned checkpoint, null for none.
        disagreements: layers that the files hold in another precision than config.json makes vLLM build, each
            with its remedy; empty where all agree, or no weights are here.
        weights: by part and precision.
        cache: what a sequence keeps.
        memory: how the memory is divided.
        decode: how fast it may decode, null where what a step reads is unknown.
    """

    model: str
    architecture: str
    quantization: str
    exact: bool
    known: bool
    unknown: list[str]
    dtype: str
    experts: int
    experts_per_token: int
    sparsity: Sparsity | None
    disagreements: list[str]
    weights: list[Weights]
    cache: KvCache
    memory: Memory
    decode: Decode | None


def document(outlook: Outlook) -> Plan:
    """The plan as its JSON has it."""
    model = outlook.model
    return Plan(
        model=model.name,
        architecture=model.architecture.family,
        quantization=model.quantization,
        exact=model.exact,
        known=model.known,
        unknown=unknown(model),
        dtype=model.architecture.dtype,
        experts=model.architecture.experts,
        experts_per_token=model.architecture.experts_per_token,
        sparsity=model.sparsity,
        disagreements=[str(each) for each in model.disagreements],
        weights=[
            Weights(
                part=str(weight.part),
                precision=weight.precision,
                draft=weight.draft,
                parameters=weight.parameters,
                bytes=weight.bytes,
            )
            for weight in model.weights
        ],
        cache=_cache(outlook),
        memory=_memory(outlook),
        decode=_decode(outlook) if outlook.steps else None,
    )


def unknown(model: Model) -> list[str]:
    """What the config does not say, in the order in which `Unknown` lists it."""
    return [str(item) for item in Unknown if item in model.architecture.unknown]


def _cache(outlook: Outlook) -> KvCache:
    cache = outlook.cache
    return KvCache(
        dtype=outlook.options.cache_dtype,
        at_most=not outlook.model.known,
        bytes_per_token=cache.token_bytes if cache else None,
        window_bytes_per_token=cache.window_bytes if cache else None,
        window=cache.window if cache else None,
        state_bytes_per_sequence=cache.state_bytes if cache else None,
        block_bytes=cache.block_bytes if cache else None,
    )


def _memory(outlook: Outlook) -> Memory:
    budget = outlook.budget
    return Memory(
        available=budget.available,
        origin=budget.origin,
        reserve=budget.reserve,
        weights=budget.weights,
        overheads=[
            Overhead(what=overhead.name, bytes=overhead.bytes, why=overhead.source)
            for overhead in budget.overheads
        ],
        kv_cache=budget.cache,
        fits=[
            Fit(context=row.context, sequence_bytes=row.sequence_bytes, sequences=row.sequences)
            for row in outlook.rows
        ],
    )


def _decode(outlook: Outlook) -> Decode:
    first = outlook.steps[0]
    return Decode(
        predicted=True,
        device="GB10",
        bandwidth=gb10.READ_PEAK,
        overhead_seconds_per_layer=first.overhead,
        context=first.context,
        bytes_by_part=[
            PartBytes(part=part.part, precision=part.precision, bytes=round(part.bytes))
            for part in first.traffic
        ],
        batches=[_batch(step) for step in outlook.steps],
        drafts=[_drafts(drafting) for drafting in outlook.drafting],
        best_drafts=[
            BestDrafts(
                content=content, batch=batch, by=row.drafter.name if row.drafter else None, drafts=row.drafts
            )
            for content in outlook.contents
            for batch, row in zip(DRAFT_BATCHES, outlook.best(content), strict=True)
        ],
        prompts=[
            PromptSpeed(batched_tokens=prefill.tokens, tokens_per_second=round(prefill.speed, 1))
            for prefill in outlook.prefill
        ],
    )


def _batch(step: Step) -> Batch:
    return Batch(
        batch=step.batch,
        bytes=round(step.bytes),
        experts=round(step.experts, 2),
        bytes_only_tokens_per_second=round(step.ceiling(), 2),
        tokens_per_second=round(step.expected(), 2),
    )


def _drafts(drafting: Drafting) -> Drafts:
    first = drafting.steps[0]
    return Drafts(
        by=drafting.drafter.name if drafting.drafter else None,
        content=drafting.content,
        drafts=drafting.drafts,
        derived=drafting.derived,
        accepted=drafting.accepted,
        bytes=round(first.bytes),
        bytes_only_tokens_per_second=round(first.ceiling(drafting.accepted), 2),
        tokens_per_second=round(drafting.speeds[0], 2),
        batches=[
            BatchSpeed(batch=step.batch, tokens_per_second=round(speed, 2))
            for step, speed in zip(drafting.steps, drafting.speeds, strict=True)
        ],
    )
