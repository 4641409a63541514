"""Known sizes: a model as the sizes that come with the package, and how a model differs from them."""

from collections.abc import Iterator
from dataclasses import asdict

from dgx_vllm.plan.model import Model
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.profiles.sizes.model_sizes import AttentionSizes, ModelSizes, RecurrentSizes, WeightSizes
from dgx_vllm.util.amounts import gb

#: Weights that differ by less are the same model: files hold headers and padding, too.
_SAME_BYTES = 0.01


def sizes(name: str, model: Model, revision: str | None, published_bytes: int | None) -> ModelSizes:
    """The sizes of a model, for a file of them.

    Args:
        name: its Hugging Face id.
        model: as planning understands it.
        revision: the commit that it was read from.
        published_bytes: what its publisher says that the files take.
    """
    architecture, recurrent = model.architecture, model.architecture.recurrent
    return ModelSizes(
        model=name,
        revision=revision,
        published_bytes=published_bytes,
        family=architecture.family,
        dtype=architecture.dtype,
        quantization=model.quantization,
        cache_dtype=model.cache_dtype,
        layers=architecture.layers,
        hidden=architecture.hidden,
        vocabulary=architecture.vocabulary,
        max_tokens=architecture.max_tokens,
        widest=architecture.widest,
        experts=architecture.experts,
        experts_per_token=architecture.experts_per_token,
        attention=tuple(AttentionSizes(**asdict(kind)) for kind in architecture.attention),
        recurrent=RecurrentSizes(**asdict(recurrent)) if recurrent else None,
        draft=AttentionSizes(**asdict(architecture.draft)) if architecture.draft else None,
        weights=tuple(WeightSizes(**asdict(weight)) for weight in model.weights),
    )


def changes(model: Model, profile: Profile | None) -> str | None:
    """One line where a profile's model is here and is not the one whose sizes come with the package.

    Args:
        model: as it is here.
        profile: the one that is applied to it.
    """
    known = model_sizes.by_model(profile.model) if profile else None
    if profile is None or known is None or model.published:
        return None
    differing = ", ".join(_differences(model, known))
    if not differing:
        return None
    return (
        f"profile {profile.name} was made for another version of {known.model}: {differing}; its "
        "settings may not fit, and sizes are those of the files here"
    )


def _differences(model: Model, known: ModelSizes) -> Iterator[str]:
    """A phrase for each difference of a model from the one whose sizes come with the package."""
    here = model.architecture
    for what, have, had in (
        ("layers", here.layers, known.layers),
        ("hidden size", here.hidden, known.hidden),
        ("vocabulary", here.vocabulary, known.vocabulary),
        ("experts", here.experts, known.experts),
    ):
        if have != had:
            yield f"{what} {have} instead of {had}"
    weights = model.bytes(drafting=True)
    if abs(weights - known.bytes) > _SAME_BYTES * known.bytes:
        yield f"weights {gb(weights)} instead of {gb(known.bytes)}"
