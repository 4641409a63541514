"""Model: a source understood: its shape, its precisions and its weights."""

from dataclasses import dataclass
from pathlib import Path

from dgx_vllm import sparsity
from dgx_vllm.errors import UserError
from dgx_vllm.plan import families, headers, quantization, weights
from dgx_vllm.plan.architecture import Architecture
from dgx_vllm.plan.source import Source
from dgx_vllm.plan.weights import Weight
from dgx_vllm.sparsity import Sparsity


@dataclass(frozen=True)
class Model:
    """What planning knows of a model.

    Args:
        name: what the user called it.
        architecture: its shape; of an unknown one what the common fields say.
        weights: by part and precision.
        exact: whether the weights are those of the files, not of the config.
        known: whether the architecture is.
        quantization: the method's name.
        cache_dtype: what the checkpoint asks the KV cache to be, None for nothing.
        sparsity: how the checkpoint was pruned, if it was.
    """

    name: str
    architecture: Architecture
    weights: tuple[Weight, ...]
    exact: bool
    known: bool
    quantization: str
    cache_dtype: str | None
    sparsity: Sparsity | None = None

    def bytes(self, drafting: bool) -> int:
        """What vLLM loads."""
        return weights.total(self.weights, drafting)


def understand(source: Source) -> Model:
    """Reads a source.

    Weights on disk count as they are; without them the config is enough for the known families.

    Raises:
        UserError: the config lacks something, or the architecture or the quantization is unknown and no
            weights are here to look at.
    """
    held = stored(source.directory)
    pruned = sparsity.declared(source.config, source.beside)
    known = True
    try:
        architecture = families.read(source.model, source.config)
    except families.UnknownArchitectureError:
        if held is None:
            raise
        known = False
        architecture = families.generic(source.model, source.config)
    try:
        method = quantization.read(source.model, architecture.dtype, source.config, source.beside)
    except UserError:
        if held is None:
            raise
        return Model(source.model, architecture, held, True, known, "unknown", None, pruned)
    found = held if held is not None else weights.planned(architecture, method)
    return Model(
        source.model, architecture, found, held is not None, known, method.name, method.cache, pruned
    )


def stored(directory: Path | None) -> tuple[Weight, ...] | None:
    """The weights of the files in a directory, None where there are none or only some of them."""
    if directory is None or not headers.present(directory) or not headers.whole(directory):
        return None
    return weights.stored(headers.read(directory))
