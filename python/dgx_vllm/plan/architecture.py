"""Architecture: a model's tensors and what each of its sequences keeps."""

import enum
import math
from dataclasses import dataclass


class Unknown(enum.StrEnum):
    """What a config.json may fail to tell, and what then cannot be planned."""

    LAYERS = "how many layers there are"
    HIDDEN = "how wide a layer is"
    VOCABULARY = "how large the vocabulary is"
    EXPERTS = "how many experts a layer has and a token uses"
    CACHE = "what a sequence keeps"
    DTYPE = "the dtype of what is computed"


@dataclass(frozen=True)
class Tensor:
    """One parameter tensor, or several alike.

    Args:
        name: as in the checkpoint; of several experts the first one's.
        shape: as in the checkpoint before quantization; matrices are [outputs, inputs].
        copies: how many of them there are: experts.
        linear: whether it is a linear layer's matrix, which quantization may take.
    """

    name: str
    shape: tuple[int, ...]
    copies: int = 1
    linear: bool = False

    @property
    def parameters(self) -> int:
        return math.prod(self.shape) * self.copies

    @property
    def module(self) -> str:
        """The layer that it belongs to, as quantization configs name it."""
        return self.name.removesuffix(".weight")


@dataclass(frozen=True)
class Attention:
    """Layers that keep a key and a value for each token.

    Args:
        layers: how many such layers there are.
        heads: key/value heads.
        head_size: numbers in a key, and in a value.
        window: tokens that are kept, None for all.
    """

    layers: int
    heads: int
    head_size: int
    window: int | None = None


@dataclass(frozen=True)
class Recurrent:
    """Layers that keep a state of fixed size for each sequence: GDN, Mamba 2.

    Shapes are those of vLLM's MambaStateShapeCalculator (model_executor/layers/mamba/mamba_utils.py).

    Args:
        layers: how many such layers there are.
        channels: channels of the short convolution.
        kernel: its width; the last `kernel - 1` inputs are kept.
        state: the recurrent state's shape, [heads, values, keys].
        dtype: the recurrent state's dtype where the config says so, else None: the model's.
    """

    layers: int
    channels: int
    kernel: int
    state: tuple[int, int, int]
    dtype: str | None = None


@dataclass(frozen=True)
class Architecture:
    """A model's shape.

    Args:
        family: the config's model_type.
        dtype: of what is not quantized, as config.json names it.
        tensors: every parameter.
        layers: decoder layers.
        hidden: the residual stream's width.
        vocabulary: rows of the embedding.
        max_tokens: the longest sequence, None where the config does not say.
        widest: the most activations that one token has at once within a layer, for an estimate.
        attention: layers with a KV cache, by kind.
        recurrent: layers with a state, if any.
        experts: routed experts per layer, 0 without.
        experts_per_token: of which each token uses so many.
        draft: the MTP layers' KV cache, None without MTP layers.
        unknown: what the config does not tell; the fields that it belongs to are 0 or empty.
    """

    family: str
    dtype: str
    tensors: tuple[Tensor, ...]
    layers: int
    hidden: int
    vocabulary: int
    max_tokens: int | None
    widest: int
    attention: tuple[Attention, ...]
    recurrent: Recurrent | None = None
    experts: int = 0
    experts_per_token: int = 0
    draft: Attention | None = None
    unknown: frozenset[Unknown] = frozenset()

    @property
    def parameters(self) -> int:
        return sum(tensor.parameters for tensor in self.tensors)
