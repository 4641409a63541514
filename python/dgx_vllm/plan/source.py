"""Source: where a model's config comes from: a directory, a file, the Hugging Face cache, or the hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm import caches, checkpoint, profile
from dgx_vllm.download import environment
from dgx_vllm.errors import FAILURE, UserError
from dgx_vllm.profile import Profile

_CONFIG = "config.json"
# Older ModelOpt checkpoints hold their quantization here instead of in config.json.
_QUANTIZATION = "hf_quant_config.json"


@dataclass(frozen=True)
class Source:
    """A model's description.

    Args:
        model: what the user called it.
        config: config.json.
        beside: hf_quant_config.json, if any.
        directory: where both lie, and weights perhaps; None for a bare file.
        profile: the built-in profile of the model, if any.
    """

    model: str
    config: Mapping[str, Any]
    beside: Mapping[str, Any] | None = None
    directory: Path | None = None
    profile: Profile | None = None


def find(model: str, environ: Mapping[str, str], fetch: bool = True) -> Source:
    """Finds a model's config.

    Args:
        model: a directory, a config.json, a profile's name or a Hugging Face id.
        environ: the process's environment, which says where the cache is.
        fetch: whether the hub may be asked for what is not here.

    Raises:
        UserError: it is nowhere, or not what it should be.
    """
    known = profile.by_model(model)
    argument = known.argument if known else model
    if not checkpoint.looks_like_path(argument):
        here = checkpoint.snapshot(argument, caches.hub(environ))
        directory = here or (_fetched(argument, environ) if fetch else None)
        if directory is None:
            raise UserError(
                f"{argument} is not in {caches.hub(environ)}; fetch it, or give a directory or a config.json"
            )
        return _in_directory(model, directory, known)
    path = Path(argument).expanduser()
    if path.is_dir():
        return _in_directory(model, path, known)
    if path.suffix == ".json" and path.is_file():
        return Source(model, checkpoint.json_object(path), profile=known)
    if path.exists():
        raise UserError(
            f"{model} is neither a checkpoint's directory nor a config.json; give one of them, "
            "or a Hugging Face id"
        )
    raise UserError(f"there is nothing at {model}; give a directory or a config.json that exists")


def _in_directory(model: str, directory: Path, known: Profile | None) -> Source:
    config, beside = directory / _CONFIG, directory / _QUANTIZATION
    if not config.is_file():
        raise UserError(f"{directory} has no {_CONFIG}; give the directory that holds it")
    return Source(
        model,
        checkpoint.json_object(config),
        checkpoint.json_object(beside) if beside.is_file() else None,
        directory,
        known,
    )


def _fetched(model: str, environ: Mapping[str, str]) -> Path:
    """Downloads the two small files into the cache, as vLLM will."""
    environment.check(environ)
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    cache = caches.hub(environ)
    try:
        # It fails at once where there is no network; a download would try for half a minute.
        beside = huggingface_hub.HfApi().file_exists(model, _QUANTIZATION)
        config = huggingface_hub.hf_hub_download(model, _CONFIG, cache_dir=cache)
        if beside:
            huggingface_hub.hf_hub_download(model, _QUANTIZATION, cache_dir=cache)
    except HFValidationError as error:
        raise UserError(
            f"{model!r} is neither a directory or file that exists nor a Hugging Face id such as owner/name; "
            "give one of them"
        ) from error
    # Errors of the network are those of huggingface_hub's HTTP library, and which one that is changes.
    except Exception as error:
        cause = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{model} is not in {cache} and its {_CONFIG} cannot be fetched ({cause}); "
            "give a local directory or a config.json",
            FAILURE,
        ) from error
    return Path(config).parent
