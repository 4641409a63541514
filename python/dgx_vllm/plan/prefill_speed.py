"""Prefill: how fast prompts are read, by the tokens of a chunk.

A chunk reads each weight once and multiplies it with all its tokens; the slower of the two counts, for the
experts and for the rest apart. With few tokens in a chunk an expert sees few of them, and reading decides.
Attention is left out, so it holds for prompts of some thousand tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import gb10
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.decode_speed import distinct_experts
from dgx_vllm.plan.weights import Weight

#: Tokens of a chunk for which speeds are shown: what vLLM 0.32 takes on a GB10 by itself, and what recipes
#: set.
CHUNKS = (2048, 8192, 16384)
#: Read for single tokens of a chunk, or not at all.
_LEFT_OUT = (Part.EMBEDDING, Part.LM_HEAD, Part.VISION)


@dataclass(frozen=True)
class Prefill:
    """A chunk of a prompt.

    Args:
        tokens: in the chunk.
        seconds: that it takes.
    """

    tokens: int
    seconds: float

    @property
    def speed(self) -> float:
        """Prompt tokens per second."""
        return self.tokens / self.seconds


def chunk(
    architecture: Architecture,
    weights: Sequence[Weight],
    tokens: int,
    overhead: float = gb10.OVERHEAD_PER_LAYER,
) -> Prefill:
    """What a chunk takes.

    Args:
        architecture: the model.
        weights: as planned or stored.
        tokens: in the chunk.
        overhead: seconds per layer besides reading and computing.
    """
    used, routed = 1.0, 1.0
    if architecture.experts:
        used = architecture.experts_per_token / architecture.experts
        routed = distinct_experts(architecture.experts, architecture.experts_per_token, tokens, shared=0.0)
        routed /= architecture.experts
    model = [weight for weight in weights if not weight.draft and weight.part not in _LEFT_OUT]
    experts = [weight for weight in model if weight.part is Part.EXPERTS]
    rest = [weight for weight in model if weight.part is not Part.EXPERTS]
    seconds = _seconds(experts, routed, used * tokens) + _seconds(rest, 1.0, tokens)
    return Prefill(tokens, seconds + architecture.layers * overhead)


def _seconds(weights: Sequence[Weight], read: float, tokens: float) -> float:
    """Of matrices of which the share `read` is read, and each multiplied with so many tokens on average."""
    size = sum(weight.bytes for weight in weights)
    computing = sum(2 * weight.parameters * tokens / _rate(weight) for weight in weights)
    return max(read * size / gb10.READ_PEAK, computing)


def _rate(weight: Weight) -> float:
    """Operations per second with a weight."""
    narrow = weight.part is not Part.EXPERTS and weight.precision in ("NVFP4", "FP8")
    return gb10.PREFILL_RATE_NARROW if narrow else gb10.PREFILL_RATE
