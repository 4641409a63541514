"""Source: where a model's config comes from: a directory, a file, the Hugging Face cache, or the hub."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints import checkpoint, file_formats, speculators
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.host import caches
from dgx_vllm.hub import import_environment
from dgx_vllm.hub.deadline import within
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.profiles.sizes.model_sizes import ModelSizes
from dgx_vllm.util.errors import FAILURE, UserError

# Seconds for each part of the hub's answers; all of them together get twice that.
_SECONDS = 30
# Older ModelOpt checkpoints hold their quantization here instead of in config.json.
_QUANTIZATION = "hf_quant_config.json"


@dataclass(frozen=True)
class Source:
    """A model's description.

    Args:
        model: what the user called it.
        config: config.json, or params.json by config.json's names.
        beside: hf_quant_config.json, if any.
        directory: where both lie, and weights perhaps; None for a bare file.
        profile: the built-in profile of the model, if any.
        reading: how vLLM is told to read the directory.
        drafter: the speculators repository that the model was found by, where there is one.
        sizes: those that come with the package, of a model of which nothing is here; `config` is then empty.
    """

    model: str
    config: Mapping[str, Any]
    beside: Mapping[str, Any] | None = None
    directory: Path | None = None
    profile: Profile | None = None
    reading: Reading = AUTO
    drafter: Path | None = None
    sizes: ModelSizes | None = None


def find(model: str, environ: Mapping[str, str], fetch: bool = True, reading: Reading = AUTO) -> Source:
    """Finds a model's config; of a speculators repository, that of the model that is served.

    Args:
        model: a directory, a config.json, a profile's name or a Hugging Face id.
        environ: the process's environment, which says where the cache is.
        fetch: whether the hub may be asked for missing files.
        reading: how vLLM is told to read it.

    Raises:
        UserError: it is nowhere, or not what it should be.
    """
    source = _find(model, environ, fetch, reading)
    speculator = speculators.read(model, source.config)
    if speculator is None:
        return source
    return replace(_find(speculator.verifier, environ, fetch, reading), model=model, drafter=source.directory)


def drafter(
    model: str, environ: Mapping[str, str], revision: str | None = None, fetch: bool = True
) -> Source:
    """Finds the config of a checkpoint that drafts, be it a speculators repository or another.

    Args:
        model: a directory, a config.json or a Hugging Face id.
        environ: the process's environment.
        revision: its branch, tag or commit, None for `main`.
        fetch: whether the hub may be asked for missing files.

    Raises:
        UserError: it is nowhere, or not what it should be.
    """
    return _find(model, environ, fetch, AUTO, revision)


def _find(
    model: str, environ: Mapping[str, str], fetch: bool, reading: Reading, revision: str | None = None
) -> Source:
    known = profile.by_model(model)
    argument = known.argument if known else model
    if file_formats.is_gguf(argument):
        raise UserError(f"{argument}: {file_formats.NO_GGUF}")
    if not checkpoint.looks_like_path(argument):
        cache = caches.hub(environ)
        snapshot = checkpoint.snapshot(argument, cache, revision, reading)
        sizes = None if snapshot else model_sizes.by_model(argument)
        if sizes:
            return Source(model, {}, profile=known, sizes=sizes)
        directory = snapshot or (_fetched(argument, environ, reading, revision) if fetch else None)
        if directory is None:
            raise UserError(
                f"{argument} is not in {cache}; fetch it, or give a directory or a config.json"
                f"{checkpoint.other_commit(argument, cache, revision)}"
            )
        return _in_directory(model, directory, known, reading)
    path = Path(argument).expanduser()
    if path.is_dir():
        return _in_directory(model, path, known, reading)
    if path.suffix == ".json" and path.is_file():
        return Source(model, checkpoint.json_object(path), profile=known)
    if path.exists():
        raise UserError(
            f"{model} is neither a checkpoint's directory nor a config.json; give one of them, "
            "or a Hugging Face id"
        )
    raise UserError(f"{model} does not exist; give an existing directory or config.json")


def _in_directory(model: str, directory: Path, known: Profile | None, reading: Reading) -> Source:
    config, beside = checkpoint.config_file(directory, reading), directory / _QUANTIZATION
    if config is None:
        checkpoint.check(str(directory), weights=False, reading=reading)  # says what is missing
        raise UserError(f"{directory} has no config.json; give the directory that holds it")
    return Source(
        model,
        checkpoint.config_of(config),
        checkpoint.json_object(beside) if beside.is_file() else None,
        directory,
        known,
        reading,
    )


def _fetched(model: str, environ: Mapping[str, str], reading: Reading, revision: str | None = None) -> Path:
    """Downloads the two small files into the cache, as vLLM will."""
    import_environment.check(environ)
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    from dgx_vllm.hub import faults

    cache = caches.hub(environ)
    seconds = int(environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or _SECONDS)

    def download() -> str:
        # It fails at once where there is no network; a download would try for half a minute.
        info = huggingface_hub.HfApi().model_info(model, revision=revision, timeout=seconds)
        names = {sibling.rfilename for sibling in info.siblings or ()}
        if file_formats.only_gguf(names):
            raise UserError(f"{model} has only GGUF: {file_formats.NO_GGUF}")
        wanted = {
            file_formats.config_name(names, reading),
            *({_QUANTIZATION, file_formats.HF_CONFIG} & names),
        }
        for name in sorted(wanted):
            path = huggingface_hub.hf_hub_download(model, name, revision=revision, cache_dir=cache)
        return path

    try:
        config = within(2 * seconds, download)
    except UserError:
        raise
    except HFValidationError as error:
        raise UserError(
            f"{model!r} is neither a directory or file that exists nor a Hugging Face id such as owner/name; "
            "give one of them"
        ) from error
    # Errors of the network are those of huggingface_hub's HTTP library, and which one that is changes.
    except Exception as error:
        raise UserError(
            f"{model} is not in {cache} and its config cannot be fetched ({faults.cause(error)}); "
            f"give a local directory or a config.json{checkpoint.other_commit(model, cache, option=False)}",
            FAILURE,
        ) from error
    return Path(config).parent
