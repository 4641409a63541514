"""Job: what an engine is asked, and what it answers; both cross to its process as JSON."""

from typing import Any

import msgspec


class Request(msgspec.Struct, frozen=True):
    """A prompt to be continued greedily.

    Args:
        prompt: token ids.
        tokens: how many to generate at most.
        forced: what is generated whatever the model says; log-probabilities stay the model's.
    """

    prompt: tuple[int, ...]
    tokens: int
    forced: tuple[int, ...] | None = None


class Job(msgspec.Struct, frozen=True):
    """One engine.

    Args:
        arguments: of `vllm.LLM`.
        batches: requests that run together, one batch after the other.
        exact: whether experts are computed in float32 by the reference in the kernel's place; else layers
            that are ours are called on their own too, see `layer_probes`.
    """

    arguments: dict[str, Any]
    batches: tuple[tuple[Request, ...], ...]
    exact: bool = False


class Generated(msgspec.Struct, frozen=True):
    """What a request got: token ids, and the log-probability of each in nats."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


class Figure(msgspec.Struct, frozen=True):
    """A layer's output on random inputs.

    Args:
        layer: its name in vLLM.
        case: what was asked of it.
        tokens: of the inputs.
        error: its relative L2 distance from the same in float64, 1e30 if it is not finite.
        repeats: whether calls with the same inputs gave the same bits.
    """

    layer: str
    case: str
    tokens: int
    error: float
    repeats: bool


class Answer(msgspec.Struct, frozen=True):
    """What an engine did.

    Args:
        batches: as asked.
        drafts: steps with drafts, drafted tokens and accepted ones.
        experts: of each rank, the class that computes a layer's routed experts, by the layer's name.
        figures: of the layers that were probed, of all ranks.
    """

    batches: tuple[tuple[Generated, ...], ...]
    drafts: tuple[int, int, int]
    experts: tuple[dict[str, str], ...]
    figures: tuple[Figure, ...]
