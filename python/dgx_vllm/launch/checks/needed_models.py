"""Needs: which models a server needs, and whether they are here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.host import caches
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import sources, speculation

# Flags that name more models, of which nothing but the config or a tokenizer may be read.
_OTHERS = ("tokenizer", "hf-config-path")


@dataclass(frozen=True)
class Repository:
    """A model of the hub whose weights are loaded.

    Args:
        name: its Hugging Face id.
        revision: its branch, tag or commit; None for `main`.
        reading: how vLLM is told to read it.
        tokenizer: whether it must bring one.
    """

    name: str
    revision: str | None
    reading: Reading
    tokenizer: bool


def reading(launch: Launch) -> Reading:
    """How vLLM is told to read the model's checkpoint."""
    extra = launch.settings.get("model-loader-extra-config")
    return sources.reading(
        launch.text("load-format"), launch.text("config-format"), extra.value if extra else None
    )


def draft_reading(launch: Launch, draft: DraftModel) -> Reading:
    """How vLLM is told to read a draft model: as the model, unless `draft_load_config` says otherwise."""
    own = reading(launch)
    return replace(own, load_format=draft.load_format) if draft.load_format else own


def has_own_tokenizer(launch: Launch) -> bool:
    """Whether the tokenizer is that of the model that is served."""
    # vLLM takes a verifier's own, whatever --tokenizer says.
    other_tokenizer = "tokenizer" in launch.settings and launch.speculator is None
    return not other_tokenizer and launch.text("skip-tokenizer-init") != "on"


def served(launch: Launch) -> str:
    """The model that answers: of a speculators repository, its verifier."""
    return launch.speculator.verifier if launch.speculator else launch.model


def drafter(launch: Launch) -> DraftModel | None:
    """The draft model that is loaded besides, if one is."""
    return speculation.drafter(launch.settings, served(launch))


def repositories(launch: Launch) -> list[Repository]:
    """The hub's models that are loaded: what is served, and its draft model."""
    needed = [Repository(served(launch), launch.text("revision"), reading(launch), has_own_tokenizer(launch))]
    draft = drafter(launch)
    if draft:
        how = draft_reading(launch, draft)
        needed.append(Repository(draft.name, draft.revision, how, tokenizer=False))
    return [repository for repository in needed if _is_on_hub(repository.name)]


def others(launch: Launch) -> list[str]:
    """The hub's models that are named besides."""
    named = [launch.settings[name].text for name in _OTHERS if name in launch.settings]
    return [name for name in named if _is_on_hub(name)]


def is_here(repository: Repository, environ: Mapping[str, str]) -> bool:
    """Whether the cache has all that the server needs of one of its repositories."""
    whole = checkpoint.whole(
        repository.name,
        caches.hub(environ),
        repository.revision,
        repository.reading,
        repository.tokenizer,
    )
    return whole is not None


def _is_on_hub(name: str) -> bool:
    return "://" not in name and not checkpoint.looks_like_path(name)
