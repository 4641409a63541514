"""Checkpoints on disk: is this one whole? Reads JSON and safetensors headers, no weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open

from dgx_vllm import caches
from dgx_vllm.errors import UserError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "*.tiktoken")
# Other JSON files may hold arrays, as sentence-transformers' modules.json does.
_OBJECTS = ("config.json", "*.index.json", "*quant*_config.json")
_LFS_POINTER = b"version https://git-lfs"


def looks_like_path(model: str) -> bool:
    """Whether a model argument names a place on disk rather than a repository of the hub."""
    return model.startswith(("/", ".", "~")) or model.endswith("/") or Path(model).exists()


def check(model: str, weights: bool = True, tokenizer: bool = False) -> None:
    """Refuses a local checkpoint that vLLM could not load.

    Args:
        model: a directory, or a single file in a format that vLLM reads itself (GGUF).
        weights: whether the weights are looked at too; not for `--load-format dummy`.
        tokenizer: whether there must be one beside them.

    Raises:
        UserError: names the file that is missing or damaged, and what to do.
    """
    path = Path(model).expanduser()
    if not path.exists():
        raise UserError(
            f"there is no checkpoint at {model}; give a directory that exists, "
            "or a Hugging Face id such as owner/name"
        )
    if path.is_file():
        if path.suffix != ".gguf":
            raise UserError(f"{model} is a file; give the directory that holds config.json and the weights")
        return
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is not a checkpoint: it has no config.json; give the directory that holds it"
        )
    for each in sorted(path.glob("*.json")):
        if any(each.match(pattern) for pattern in _OBJECTS):
            json_object(each)
        else:
            _decoded(each, Any)
    if tokenizer and not any(each for pattern in _TOKENIZERS for each in path.glob(pattern)):
        raise UserError(
            f"{path} has no tokenizer ({', '.join(_TOKENIZERS)}); "
            "fetch the checkpoint again, or give --tokenizer"
        )
    if weights:
        _check_weights(path)


def config(model: str, environ: Mapping[str, str], revision: str | None = None) -> dict[str, Any] | None:
    """A model's config.json from its directory or the Hugging Face cache; None if it is not here."""
    directory = place(model, environ, revision)
    path = directory / "config.json" if directory else None
    return json_object(path) if path and path.is_file() else None


def cached(model: str, environ: Mapping[str, str], revision: str | None = None) -> bool:
    """Whether the Hugging Face cache holds a snapshot of the model's revision, see `snapshot`."""
    return snapshot(model, caches.hub(environ), revision) is not None


def place(model: str, environ: Mapping[str, str], revision: str | None = None) -> Path | None:
    """The directory of a model: the one that it names, or its revision's in the Hugging Face cache.

    Returns:
        None where the cache does not hold it; a directory that the model names need not exist.
    """
    if looks_like_path(model):
        return Path(model).expanduser()
    return snapshot(model, caches.hub(environ), revision)


def snapshot(model: str, cache: Path, revision: str | None = None) -> Path | None:
    """The directory of a model's revision in a Hugging Face cache (its layout is documented).

    Args:
        model: the Hugging Face id.
        cache: the hub's cache.
        revision: a branch, a tag or a commit in full; by default `main`.

    Returns:
        None where the cache does not hold it, or no config.json of it.
    """
    folder = cache / f"models--{model.replace('/', '--')}"
    name = revision or "main"
    try:
        commit = (folder / "refs" / name).read_text().strip()
    except (OSError, ValueError):  # no branch or tag, or none that a file may be called
        commit = name
    # By listing them: a name such as `..` leads elsewhere.
    found = next((path for path in (folder / "snapshots").glob("*") if path.name == commit), None)
    return found if found and (found / "config.json").is_file() else None


def has_gated_delta_net(config: Mapping[str, Any]) -> bool:
    """Whether a config describes GDN layers (Qwen3-Next, Qwen3.5, Qwen3.6, OLMo hybrid)."""
    text = config.get("text_config")
    parts = [config, text] if isinstance(text, dict) else [config]
    return any("linear_num_value_heads" in part for part in parts)


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a checkpoint holds.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    return _decoded(path, dict[str, Any])


def _decoded(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is truncated or not JSON ({error}); fetch the checkpoint again") from error


def _check_weights(directory: Path) -> None:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        _check_shards(index)
        return
    for path in sorted(directory.glob("*.safetensors")):
        _tensors(path)
    if not _has_weights(directory):
        raise UserError(f"{directory} has no weights (*.safetensors); fetch the checkpoint again")


def _has_weights(directory: Path) -> bool:
    return any(path.suffix in (".safetensors", ".bin", ".pt", ".gguf") for path in directory.iterdir())


def _check_shards(index: Path) -> None:
    shards = json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index} has no weight_map; fetch the checkpoint again")
    names = sorted(set(shards.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{index} names {missing[0]}{more}, which is not there; fetch the checkpoint again")
    held = {name: _tensors(index.parent / name) for name in names}
    for tensor, name in shards.items():
        if tensor not in held[name]:
            raise UserError(
                f"{index} says {tensor} is in {name}, which does not hold it; fetch the checkpoint again"
            )


def _tensors(path: Path) -> set[str]:
    """The names in a safetensors file, whose header must match its size."""
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise UserError(
                    f"{path} is a Git LFS pointer, not weights; run `git lfs pull` in {path.parent}"
                )
        with safe_open(path, framework="np") as tensors:
            return set(tensors.keys())
    except SafetensorError as error:
        size = os.path.getsize(path)
        raise UserError(
            f"{path} is truncated or damaged ({size} bytes; {error}); fetch the checkpoint again"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
