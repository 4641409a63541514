"""Model sizes: what planning needs of a published model, as data, so that no network is needed.

`python -m dgx_vllm.plan.generate_sizes` makes such a file from a checkpoint's config.json. tests/profiles
holds each file against the fields of that config and against the size of the published files.
"""

import functools
from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.formats.tensor_roles import Part

_DIRECTORY = Path(__file__).resolve().parent


class AttentionSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Layers that keep keys and values, see `plan.architecture.Attention`.

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


class RecurrentSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Layers that keep a state of fixed size, see `plan.architecture.Recurrent`.

    Args:
        layers: how many such layers there are.
        channels: channels of the short convolution.
        kernel: its width.
        state: the recurrent state's shape.
        dtype: the recurrent state's dtype, None for the model's.
    """

    layers: int
    channels: int
    kernel: int
    state: tuple[int, int, int]
    dtype: str | None = None


class WeightSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Weights of one part in one precision, see `plan.weights.Weight`.

    Args:
        part: what they are for.
        precision: how they are stored.
        parameters: how many.
        bytes: with every scale.
        outputs: of all matrices together.
        draft: whether they belong to the MTP layers.
        wide: whether vLLM holds them in float32.
        offered: whether they are a draft's experts that the plugin may quantize.
    """

    part: Part
    precision: str
    parameters: int
    bytes: int
    outputs: int = 0
    draft: bool = False
    wide: bool = False
    offered: bool = False


class ModelSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """A published model.

    Args:
        model: its Hugging Face id.
        family: the config's model_type.
        dtype: of what is not quantized.
        quantization: the method's name.
        layers: decoder layers.
        hidden: the residual stream's width.
        vocabulary: rows of the embedding.
        widest: the most activations that one token has at once within a layer.
        weights: by part and precision.
        attention: layers with a KV cache, by kind.
        max_tokens: the longest sequence, None where the config does not say.
        cache_dtype: what the checkpoint asks the KV cache to be, None for nothing.
        recurrent: layers with a state, if any.
        experts: routed experts per layer.
        experts_per_token: of which each token uses so many.
        draft: the MTP layers' KV cache, if any.
        revision: the commit on the hub that the sizes are those of, where it is known.
        published_bytes: what the hub or the publisher says that the weights' files take, where it is known.
    """

    model: str
    family: str
    dtype: str
    quantization: str
    layers: int
    hidden: int
    vocabulary: int
    widest: int
    weights: tuple[WeightSizes, ...]
    attention: tuple[AttentionSizes, ...] = ()
    max_tokens: int | None = None
    cache_dtype: str | None = None
    recurrent: RecurrentSizes | None = None
    experts: int = 0
    experts_per_token: int = 0
    draft: AttentionSizes | None = None
    revision: str | None = None
    published_bytes: int | None = None

    @property
    def bytes(self) -> int:
        """All weights, those of MTP layers included: what is downloaded, but for small files."""
        return sum(weight.bytes for weight in self.weights)


@functools.cache
def builtin() -> tuple[ModelSizes, ...]:
    """The models whose sizes come with the package."""
    return tuple(read(path) for path in sorted(_DIRECTORY.glob("*.toml")))


def read(path: Path) -> ModelSizes:
    """Reads one file."""
    return msgspec.toml.decode(path.read_bytes(), type=ModelSizes)


def by_model(model: str) -> ModelSizes | None:
    """The sizes of a model by its Hugging Face id, None where they are not known."""
    return next((sizes for sizes in builtin() if sizes.model == model), None)


def to_toml(sizes: ModelSizes) -> str:
    """The file's text: scalars first, then one line for each group of weights."""
    fields: dict[str, Any] = msgspec.to_builtins(sizes)
    lines = [f"{name} = {_value(value)}" for name, value in fields.items() if name != "weights"]
    rows = [f"    {_value(row)}," for row in fields["weights"]]
    return "\n".join([*lines, "weights = [", *rows, "]", ""])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{name} = {_value(item)}" for name, item in value.items() if item not in (None, False))
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
