"""Needs: which models a server needs, and whether they are here."""

from collections.abc import Mapping

from dgx_vllm.checkpoints import checkpoint, file_formats
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.host import caches
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import sources

# Flags that name more models, of which nothing but the config or a tokenizer may be read.
_OTHERS = ("tokenizer", "hf-config-path", "spec-model")


def reading(launch: Launch) -> Reading:
    """How vLLM is told to read the model's checkpoint."""
    extra = launch.settings.get("model-loader-extra-config")
    return sources.reading(
        launch.text("load-format"), launch.text("config-format"), extra.value if extra else None
    )


def has_own_tokenizer(launch: Launch) -> bool:
    """Whether the tokenizer is that of the model that is served."""
    # vLLM takes a verifier's own, whatever --tokenizer says.
    other_tokenizer = "tokenizer" in launch.settings and launch.speculator is None
    return not other_tokenizer and launch.text("skip-tokenizer-init") != "on"


def repositories(launch: Launch) -> list[str]:
    """The hub's models that are loaded: what is served and, of a speculators repository, both."""
    named = [launch.model, *([launch.speculator.verifier] if launch.speculator else [])]
    return [name for name in named if "://" not in name and not checkpoint.looks_like_path(name)]


def others(launch: Launch) -> list[str]:
    """The hub's models that are named besides."""
    named = [launch.settings[name].text for name in _OTHERS if name in launch.settings]
    return [name for name in named if "://" not in name and not checkpoint.looks_like_path(name)]


def is_here(launch: Launch, model: str, environ: Mapping[str, str]) -> bool:
    """Whether the cache has all that the server needs of one of its repositories."""
    drafter = launch.speculator is not None and model == launch.speculator.model
    how_to_read = file_formats.AUTO if drafter else reading(launch)
    tokenizer = not drafter and has_own_tokenizer(launch)
    return (
        checkpoint.whole(model, caches.hub(environ), launch.text("revision"), how_to_read, tokenizer)
        is not None
    )
