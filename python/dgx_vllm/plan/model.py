"""Model: a source understood: its shape, its precisions and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from dgx_vllm.checkpoints import checkpoint, headers, sparsity
from dgx_vllm.checkpoints.fields import quantization_config, text_part
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.checkpoints.sparsity import Sparsity
from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import dtypes, families, generic, quantization, stored_precision, weights
from dgx_vllm.plan.architecture import Architecture, Attention, Recurrent, Unknown
from dgx_vllm.plan.precision import PLAIN
from dgx_vllm.plan.source import Source
from dgx_vllm.plan.stored_precision import Disagreement
from dgx_vllm.plan.weights import Weight
from dgx_vllm.profiles.sizes.model_sizes import AttentionSizes, ModelSizes
from dgx_vllm.util.errors import UserError


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
        published: whether all of it is by the sizes that come with the package, and nothing of it is here.
        disagreements: layers that the files hold in another precision than the config makes vLLM build.
    """

    name: str
    architecture: Architecture
    weights: tuple[Weight, ...]
    exact: bool
    known: bool
    quantization: str
    cache_dtype: str | None
    sparsity: Sparsity | None = None
    published: bool = False
    disagreements: tuple[Disagreement, ...] = ()

    def bytes(self, drafting: bool) -> int:
        """What vLLM loads."""
        return weights.total(self.weights, drafting)


def understand(source: Source, thorough: bool = True) -> Model:
    """Reads a source.

    Weights on disk count as they are, and a config that does not tell everything then leaves something
    `unknown`. Without them the config must be enough, which it is for the known families.

    Args:
        source: where the model is.
        thorough: whether vLLM's config classes are asked for what the config leaves to them, which takes
            seconds.

    Raises:
        UserError: the config lacks something, or the architecture or the quantization is unknown and no
            weights are here to look at.
    """
    if source.sizes:
        return published(source.model, source.sizes)
    tensors = _tensors(source.directory, source.reading)
    pruned = sparsity.declared(source.config, source.beside)
    sizes = _sizes(source.directory, source.reading) if tensors is None else 0
    known = True
    try:
        architecture = families.read(source.model, source.config)
    except UserError:
        if tensors is None and not sizes:
            _refuse_damaged(source)
            raise
        known = False
        architecture = _generic(source, thorough)
    stored_dtype = dtypes.stored(source.config, [tensor.dtype for tensor in (tensors or {}).values()])
    dtype = dtypes.served("auto", stored_dtype, architecture.family)
    name, cache_dtype, loaded = "unknown", None, None
    if tensors is not None:
        loaded = _weights(tensors, source.config, architecture)
        architecture = _fitted(architecture, loaded, source)
    elif not known:
        loaded = (_in_one(sizes, stored_dtype, source.config),)
        if architecture.experts:
            # Which of the bytes are theirs only a header would say.
            architecture = replace(architecture, unknown=architecture.unknown | {Unknown.EXPERTS})
    try:
        method = quantization.read(source.model, dtype, source.config, source.beside)
        name, cache_dtype = method.name, method.cache
        loaded = weights.planned(architecture, method) if loaded is None else loaded
    except UserError:
        if loaded is None and not sizes:
            raise
        if loaded is None:
            known, loaded = False, (_in_one(sizes, stored_dtype, source.config),)
    if dtype not in dtypes.BYTES:
        unknown = architecture.unknown | {Unknown.DTYPE, Unknown.CACHE}
        architecture = replace(architecture, unknown=unknown)
    architecture = replace(architecture, dtype=dtype)
    loaded = tuple(loaded) + tuple(replace(each, draft=True) for each in stored(source.drafter) or ())
    exact = tensors is not None or not known
    differing = stored_precision.disagreements(source.config, source.beside, tensors) if tensors else ()
    return Model(
        source.model,
        architecture,
        loaded,
        exact,
        known,
        name,
        cache_dtype,
        pruned,
        disagreements=differing,
    )


def published(name: str, sizes: ModelSizes) -> Model:
    """The model that known sizes describe.

    Args:
        name: what the user called it.
        sizes: as they come with the package.
    """
    recurrent = sizes.recurrent
    architecture = Architecture(
        family=sizes.family,
        dtype=sizes.dtype,
        tensors=(),
        layers=sizes.layers,
        hidden=sizes.hidden,
        vocabulary=sizes.vocabulary,
        max_tokens=sizes.max_tokens,
        widest=sizes.widest,
        attention=tuple(_attention(kind) for kind in sizes.attention),
        recurrent=Recurrent(**structs.asdict(recurrent)) if recurrent else None,
        experts=sizes.experts,
        experts_per_token=sizes.experts_per_token,
        draft=_attention(sizes.draft) if sizes.draft else None,
    )
    loaded = tuple(Weight(**structs.asdict(weight)) for weight in sizes.weights)
    return Model(
        name, architecture, loaded, False, True, sizes.quantization, sizes.cache_dtype, published=True
    )


def _attention(kind: AttentionSizes) -> Attention:
    return Attention(**structs.asdict(kind))


def stored(
    directory: Path | None, config: Mapping[str, Any] | None = None, reading: Reading = AUTO
) -> tuple[Weight, ...] | None:
    """The weights of the files in a directory, None where there are none or only some of them.

    Args:
        directory: the checkpoint.
        config: its config.json, which says where draft layers begin; without it all layers count as the
            model's.
        reading: how vLLM is told to read it.
    """
    tensors = _tensors(directory, reading)
    return None if tensors is None else _weights(tensors, config or {})


def _tensors(directory: Path | None, reading: Reading) -> Mapping[str, Stored] | None:
    if directory is None or not headers.present(directory, reading) or not headers.whole(directory, reading):
        return None
    return headers.read(directory, reading)


def _sizes(directory: Path | None, reading: Reading) -> int:
    """Bytes of weights in files that have no header to read (.bin, .pt); 0 where some are missing."""
    if directory is None or headers.present(directory, reading) or not headers.whole(directory, reading):
        return 0
    return sum(path.stat().st_size for path in headers.files(directory, reading))


def _refuse_damaged(source: Source) -> None:
    """Says what is wrong with weights that are here, where there are any.

    Raises:
        UserError: a file of theirs is missing or damaged.
    """
    if source.directory is not None and headers.files(source.directory, source.reading):
        checkpoint.check(str(source.directory), reading=source.reading)


def _in_one(size: int, dtype: str, config: Mapping[str, Any]) -> Weight:
    """Weights of which no more is known than how many bytes they are, and their dtype if all have one."""
    plain = None if quantization_config(config) else PLAIN.get(dtype)
    if plain is None:
        return Weight(Part.OTHER, "as stored", False, 0, size, 0)
    return Weight(Part.OTHER, plain.name, False, size * 8 // plain.bits, size, 0)


def _generic(source: Source, thorough: bool) -> Architecture:
    inner = text_part(source.model, source.config).values
    if inner.get("model_type") in families.KNOWN:
        # A language model of a known family in a model of several parts.
        try:
            return families.read(source.model, inner)
        except UserError:
            pass
    architecture = generic.read(source.model, source.config)
    if not architecture.unknown or not thorough:
        return architecture
    from dgx_vllm.plan import defaults  # its classes take seconds to import

    filled = defaults.filled(source.model, source.config)
    return generic.read(source.model, filled) if filled else architecture


def _weights(
    tensors: Mapping[str, Stored], config: Mapping[str, Any], architecture: Architecture | None = None
) -> tuple[Weight, ...]:
    fields = text_part("", config)
    experts = architecture.experts if architecture else fields.found(*generic.EXPERTS) or 0
    return weights.stored(tensors, generic.beyond(fields), experts)


def _fitted(architecture: Architecture, stored_weights: tuple[Weight, ...], source: Source) -> Architecture:
    """The architecture with what the files tell of experts and drafts."""
    if not any(weight.part is Part.EXPERTS for weight in stored_weights):
        # A field of the family that this model makes no use of.
        unknown = architecture.unknown - {Unknown.EXPERTS}
        architecture = replace(architecture, experts=0, experts_per_token=0, unknown=unknown)
    elif not architecture.experts:
        architecture = replace(architecture, unknown=architecture.unknown | {Unknown.EXPERTS})
    if architecture.draft is None and any(weight.draft for weight in stored_weights):
        fields = text_part(source.model, source.config)
        draft = generic.draft(fields, fields.found(*generic.DRAFT_LAYERS) or 1)
        architecture = replace(architecture, draft=draft)
    return architecture
