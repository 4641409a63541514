"""Drafter: what makes the drafts: the model's own MTP layers, or a second checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dgx_vllm.formats.tensor_roles import Part
from dgx_vllm.plan import draft_shapes, model, source, weights
from dgx_vllm.plan.architecture import Architecture, Attention
from dgx_vllm.plan.model import Model
from dgx_vllm.plan.weights import Loading, Weight
from dgx_vllm.util.errors import UserError

#: Methods that draft all tokens in one pass of the drafter (vllm/v1/worker/gpu/spec_decode).
_AT_ONCE = ("dflash", "dspark")
#: Methods whose drafters choose an attention backend themselves, whatever the model's is
#: (vllm/v1/worker/gpu/spec_decode).
_OWN_BACKEND = (*_AT_ONCE, "draft_model")
#: Models of vLLM that draft without a KV cache of their own: they read the model's (models/gemma4_mtp.py).
_NO_CACHE = ("gemma4_assistant",)


@dataclass(frozen=True)
class Drafter:
    """What makes the drafts.

    Args:
        method: by vLLM's name, such as mtp or dflash.
        model: the checkpoint, None for the model's own MTP layers.
        weights: as they are loaded.
        attention: layers with a KV cache, by kind.
        layers: that one pass runs.
        at_once: whether one pass drafts all tokens; else each token takes one.
        experts: routed experts in a layer, 0 without.
        experts_per_token: of which a token uses so many.
        most: the tokens that it was made to draft at once, None where that is not known.
        revision: the checkpoint's branch, tag or commit, None for `main`.
    """

    method: str
    model: str | None
    weights: tuple[Weight, ...]
    attention: tuple[Attention, ...]
    layers: int
    at_once: bool
    experts: int = 0
    experts_per_token: int = 0
    most: int | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """As people call it, such as `mtp` or `dflash z-lab/Qwen3.8-27B-DFlash2`."""
        return f"{self.method} {self.model}" if self.model else self.method

    @property
    def bytes(self) -> int:
        """What vLLM loads; what it may share with the model, such as an equal embedding, is counted."""
        return sum(weight.bytes for weight in self.weights)

    @property
    def own_head(self) -> bool:
        """Whether it has an lm_head; else it reads the model's."""
        return any(weight.part is Part.LM_HEAD for weight in self.weights)

    def passes(self, drafts: int) -> int:
        """How often its layers run in a step."""
        return min(drafts, 1) if self.at_once else drafts

    def queries(self, drafts: int) -> int:
        """Tokens of a sequence in one pass: the last one and a mask for each draft, or a single one."""
        return drafts + 1 if self.at_once else 1


def backend(method: str | None, own: str | None, target: str | None) -> str | None:
    """The attention backend of what drafts, None for vLLM's choice.

    Args:
        method: how it drafts, by vLLM's name.
        own: what --speculative-config names.
        target: the model's --attention-backend, which some methods take over.
    """
    return own or (None if method in _OWN_BACKEND else target)


def own(architecture: Architecture, loaded: tuple[Weight, ...], method: str = "mtp") -> Drafter | None:
    """The model's MTP layers, None where it has none.

    Args:
        architecture: the model.
        loaded: its weights, as they are loaded or stored.
        method: by vLLM's name.
    """
    if architecture.draft is None:
        return None
    return Drafter(
        method=method,
        model=None,
        weights=tuple(weight for weight in loaded if weight.draft),
        attention=(architecture.draft,),
        layers=1,
        at_once=False,
        experts=architecture.experts,
        experts_per_token=architecture.experts_per_token,
    )


def find(
    name: str,
    environ: Mapping[str, str],
    loading: Loading,
    method: str | None = None,
    revision: str | None = None,
    fetch: bool = True,
) -> Drafter:
    """A second checkpoint: what is here of it, else the package's sizes of it, else the hub's config.

    Args:
        name: a directory, a config.json or a Hugging Face id.
        environ: the process's environment, which says where the cache is.
        loading: how the weights are loaded; those of a second checkpoint stay as they are stored.
        method: by vLLM's name, None for what the config says.
        revision: its branch, tag or commit, None for `main`.
        fetch: whether the hub may be asked for its config.

    Raises:
        UserError: it is nowhere, or its config says too little and its weights are not here.
    """
    description = source.drafter(name, environ, revision, fetch)
    understood = model.understand(description, thorough=False)
    most = draft_shapes.most(description.config)
    return of(understood, name, loading, method, revision, most)


def of(
    understood: Model,
    name: str,
    loading: Loading,
    method: str | None = None,
    revision: str | None = None,
    most: int | None = None,
) -> Drafter:
    """The drafter that a checkpoint is.

    Args:
        understood: the checkpoint.
        name: what the user called it.
        loading: see `find`.
        method: see `find`.
        revision: see `find`.
        most: see `Drafter`.

    Raises:
        UserError: what its layers keep of a sequence is not known.
    """
    shape = understood.architecture
    loaded = weights.loaded(understood.weights, replace(loading, dense_dtype="bf16"))
    kind = shape.family if shape.family in draft_shapes.KINDS else None
    by_name = method or {"peagle": "eagle3"}.get(kind or "", kind) or "draft_model"
    if by_name.endswith("mtp") and any(weight.draft for weight in loaded):
        # A checkpoint of MTP layers alone, in the form of the model that they belong to.
        loaded = tuple(weight for weight in loaded if weight.draft)
        attention = (shape.draft,) if shape.draft else shape.attention
        layers = 1
    else:
        attention, layers = shape.attention, shape.layers
    if shape.family in _NO_CACHE:
        attention = ()
    elif not attention:
        raise UserError(
            f"{name}: its config.json does not say what its layers keep of a sequence, so it cannot be "
            "planned as a draft model; plan without it"
        )
    at_once = by_name in _AT_ONCE or kind == "peagle"
    if at_once:
        loaded = (*loaded, *_joined(loaded, shape))
    return Drafter(
        method=by_name,
        model=name,
        weights=tuple(replace(weight, draft=True) for weight in loaded),
        attention=attention,
        layers=layers,
        at_once=at_once,
        experts=shape.experts,
        experts_per_token=shape.experts_per_token,
        most=most,
        revision=revision,
    )


def _joined(loaded: tuple[Weight, ...], shape: Architecture) -> tuple[Weight, ...]:
    """A copy of all layers' key and value matrices in one, which vLLM makes of an unquantized drafter's.

    It projects what the model read of the text into the drafter's KV cache with it
    (_build_context_kv_buffers in models/qwen3_dflash.py).
    """
    if shape.family not in _AT_ONCE or any(
        weight.part is Part.ATTENTION_QKV and weight.precision not in ("BF16", "FP16") for weight in loaded
    ):
        return ()
    outputs = sum(2 * kind.layers * kind.heads * kind.head_size for kind in shape.attention)
    parameters = outputs * shape.hidden
    return (Weight(Part.ATTENTION_QKV, "BF16", True, parameters, 2 * parameters, outputs),)
