"""Checkpoints on disk: is this one whole? Reads JSON and safetensors headers, no weights."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dgx_vllm.checkpoints import file_formats, hf_cache, mistral, safetensors_file
from dgx_vllm.checkpoints.fields import language_parts, quantization_config
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.host import caches
from dgx_vllm.util.errors import UserError

# What vLLM and transformers read as objects; others hold arrays, as sentence-transformers' modules.json.
_OBJECTS = ("config.json", "*quant*_config.json", "tokenizer_config.json", "generation_config.json")
_READ = (
    *_OBJECTS,
    *("tokenizer.json", "vocab.json", "special_tokens_map.json", "added_tokens.json", "tekken.json"),
    *("preprocessor_config.json", "processor_config.json", "chat_template.json", "modules.json"),
)


def looks_like_path(model: str) -> bool:
    """Whether a model argument names a place on disk rather than a repository of the hub."""
    return model.startswith(("/", ".", "~")) or model.endswith("/") or Path(model).exists()


def check(
    model: str,
    weights: bool = True,
    tokenizer: bool = False,
    reading: Reading = AUTO,
    config: bool = True,
) -> None:
    """Refuses a local checkpoint that vLLM could not load.

    Args:
        model: a directory.
        weights: whether the weights are looked at too; not for `--load-format dummy`.
        tokenizer: whether the directory must hold one, too.
        reading: how vLLM is told to read it.
        config: whether there must be a config; not where --hf-config-path names another place for it.

    Raises:
        UserError: names the file that is missing or damaged, and what to do.
    """
    path = Path(model).expanduser()
    if file_formats.is_gguf(path.name):
        raise UserError(f"{model}: {file_formats.NO_GGUF}")
    if not path.exists():
        raise UserError(
            f"there is no checkpoint at {model}; give a directory that exists, "
            "or a Hugging Face id such as owner/name"
        )
    if path.is_file():
        raise UserError(f"{model} is a file; give the directory that holds config.json and the weights")
    files = names(path)
    if config:
        _check_config(path, files, reading)
    for each in sorted(path.glob("*.json")):
        if any(each.match(pattern) for pattern in _OBJECTS):
            json_object(each)
        elif any(each.match(pattern) for pattern in _READ):
            _decoded(each)
    if tokenizer and not file_formats.has_tokenizer(files, lambda name: json_object(path / name)):
        raise UserError(
            f"{path} has no tokenizer (tokenizer.json, tokenizer.model, tekken.json, vocab.json or another "
            "that transformers loads); fetch the checkpoint again, or give --tokenizer"
        )
    if weights and reading.has_weights:
        _check_weights(path, files, reading)


def names(directory: Path) -> frozenset[str]:
    """The files of a directory and of its folders, by their paths in it; links that lead nowhere are none."""
    if not any(
        (directory / name).is_file() for name in (file_formats.HF_CONFIG, file_formats.MISTRAL_CONFIG)
    ):
        # It is not a checkpoint, and may be a whole disk.
        return frozenset(path.name for path in directory.iterdir() if path.is_file())
    return frozenset(
        str(path.relative_to(directory))
        for root, _, files in os.walk(directory)
        for path in (Path(root, name) for name in files)
        if path.is_file()
    )


def weights(directory: Path, reading: Reading = AUTO) -> list[Path]:
    """The files of weights that vLLM loads from a directory; the index may name some that are not there.

    Raises:
        UserError: the index is none.
    """
    return [directory / name for name in _taken(directory, names(directory), reading)[1]]


def config_file(directory: Path, reading: Reading = AUTO) -> Path | None:
    """The file that vLLM takes a directory's config from; None where it is not there."""
    path = directory / file_formats.config_name(names(directory), reading)
    return path if path.is_file() else None


def config(
    model: str, environ: Mapping[str, str], revision: str | None = None, reading: Reading = AUTO
) -> dict[str, Any] | None:
    """A model's config from its directory or the Hugging Face cache, by config.json's names.

    Returns:
        None if it is not here.
    """
    directory = place(model, environ, revision)
    path = config_file(directory, reading) if directory and directory.is_dir() else None
    return config_of(path) if path else None


def config_of(path: Path) -> dict[str, Any]:
    """A config file's fields, by config.json's names; Mistral's params.json has its own.

    Raises:
        UserError: it cannot be read.
    """
    fields = json_object(path)
    if path.name != file_formats.MISTRAL_CONFIG:
        return fields
    beside = path.with_name(file_formats.HF_CONFIG)
    return mistral.adapted(fields, json_object(beside) if beside.is_file() else None)


def cached(
    model: str, environ: Mapping[str, str], revision: str | None = None, reading: Reading = AUTO
) -> bool:
    """Whether the Hugging Face cache holds a snapshot of the model's revision, see `snapshot`."""
    return snapshot(model, caches.hub(environ), revision, reading) is not None


def place(model: str, environ: Mapping[str, str], revision: str | None = None) -> Path | None:
    """The directory of a model: the one that it names, or its revision's in the Hugging Face cache.

    Returns:
        None where the cache does not hold it; a directory that the model names need not exist.
    """
    if looks_like_path(model):
        return Path(model).expanduser()
    return snapshot(model, caches.hub(environ), revision)


def snapshot(
    model: str, cache: Path, revision: str | None = None, reading: Reading | None = None
) -> Path | None:
    """The directory of a model's revision in a Hugging Face cache.

    Args:
        model: the Hugging Face id.
        cache: the hub's cache.
        revision: a branch, a tag or a commit in full; by default `main`.
        reading: how vLLM is told to read it; None for any of its ways.

    Returns:
        None where the cache does not hold it, or no config of it.
    """
    directory = hf_cache.snapshot(cache, model, revision)
    if directory is None:
        return None
    if reading is not None:
        return directory if config_file(directory, reading) else None
    known = (file_formats.HF_CONFIG, file_formats.MISTRAL_CONFIG)
    return directory if any((directory / name).is_file() for name in known) else None


def whole(
    model: str, cache: Path, revision: str | None = None, reading: Reading = AUTO, tokenizer: bool = False
) -> Path | None:
    """The directory of a model's revision in a Hugging Face cache, if vLLM can load what is there."""
    directory = snapshot(model, cache, revision, reading)
    if directory is None:
        return None
    try:
        check(str(directory), tokenizer=tokenizer, reading=reading)
    except UserError:
        return None
    return directory


def other_commit(model: str, cache: Path, revision: str | None = None, option: bool = True) -> str:
    """What to say of a model whose revision is not here while another of its commits is; else nothing.

    Args:
        model: the Hugging Face id.
        cache: the hub's cache.
        revision: what was asked for; by default `main`.
        option: whether the command has --revision.
    """
    for path in hf_cache.others(cache, model, revision):
        if config_file(path):
            either = f"--revision {path.name}, or " if option else ""
            return f"; another commit is downloaded: give {either}the directory {path}"
    return ""


def has_gated_delta_net(config: Mapping[str, Any]) -> bool:
    """Whether a config describes GDN layers (Qwen3-Next, Qwen3.5, Qwen3.6, OLMo hybrid)."""
    return any("linear_num_value_heads" in part for part in language_parts(config))


def has_mamba2(config: Mapping[str, Any]) -> bool:
    """Whether a config describes Mamba 2 layers as Nemotron-H has them."""
    return any("mamba_num_heads" in part for part in language_parts(config))


def quantization(config: Mapping[str, Any]) -> str | None:
    """The method that the weights are quantized by, as vLLM spells it; None where the config names none."""
    fields = quantization_config(config)
    if not isinstance(fields, Mapping):
        return None
    producer = fields.get("producer")
    if isinstance(producer, Mapping) and producer.get("name") == "modelopt":
        return "modelopt"
    method = str(fields.get("quant_method") or "").lower()
    return method.replace("compressed_tensors", "compressed-tensors") or None


def json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a checkpoint holds.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    value = _decoded(path)
    if not isinstance(value, dict):
        raise UserError(
            f"{path} is truncated or not JSON (it holds {type(value).__name__}, not an object); fetch the "
            "checkpoint again"
        )
    return value


def _decoded(path: Path) -> Any:
    try:
        content = path.read_bytes()
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            # Python's own, which vLLM reads with, takes more: configs of Mamba layers have `Infinity`.
            return json.loads(content.decode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is truncated or not JSON ({error}); fetch the checkpoint again") from error


def _check_config(directory: Path, files: Collection[str], reading: Reading) -> None:
    name = file_formats.config_name(files, reading)
    if name in files:
        json_object(directory / name)
        return
    if file_formats.only_gguf(files):
        raise UserError(f"{directory} holds only GGUF: {file_formats.NO_GGUF}")
    _refuse_dangling(directory / name)
    asked = (
        "" if reading.config_format == "auto" else f", which --config-format {reading.config_format} asks for"
    )
    raise UserError(
        f"{directory} is not a checkpoint: it has no {name}{asked}; give the directory that holds it"
    )


def _check_weights(directory: Path, files: Collection[str], reading: Reading) -> None:
    if not file_formats.patterns(files, reading):
        return  # a plugin's format
    index, taken = _taken(directory, files, reading)
    for name in taken:
        _refuse_dangling(directory / name)
    # An index may name files of another format, or in folders, which vLLM does not look for.
    listed = _listed(directory, files, reading)
    missing = [name for name in taken if name not in files or name not in listed]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{index or directory} names {missing[0]}{more}, which is not there; fetch the checkpoint again"
        )
    if not taken:
        raise _without_weights(directory, files, reading)
    for name in taken:
        if name.endswith(".safetensors"):
            safetensors_file.check(directory / name)


def _taken(directory: Path, files: Collection[str], reading: Reading) -> tuple[Path | None, list[str]]:
    """The index that counts, if one does, and the weights that vLLM loads, by their names."""
    listed = _listed(directory, files, reading)
    name = file_formats.index_name(listed, file_formats.resolved(files, reading))
    if name is None or name not in files:
        return None, sorted(listed)
    return directory / name, _shards(directory / name)


def _listed(directory: Path, files: Collection[str], reading: Reading) -> tuple[str, ...]:
    """The weights by their names alone, as vLLM looks for them: links that lead nowhere are among them."""
    names = {*files, *(path.name for path in directory.iterdir() if path.is_symlink())}
    return file_formats.weights(names, file_formats.resolved(files, reading))


def _without_weights(directory: Path, files: Collection[str], reading: Reading) -> UserError:
    if file_formats.only_gguf(files):
        return UserError(f"the weights in {directory} are GGUF: {file_formats.NO_GGUF}")
    names = " or ".join(dict.fromkeys(file_formats.patterns(files, reading)))
    if reading.load_format == "auto" and file_formats.resolved(files, reading).load_format == "mistral":
        return UserError(
            f"{directory} has {names} in a folder, and vLLM would look for it only next to the config; give "
            "--load-format safetensors, or the folder's own path"
        )
    asked = "" if reading.load_format == "auto" else f", which --load-format {reading.load_format} asks for"
    return UserError(f"{directory} has no weights ({names}){asked}; fetch the checkpoint again")


def _refuse_dangling(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {os.readlink(path)}, which is gone; fetch the checkpoint again")


def _shards(index: Path) -> list[str]:
    """The files that an index names; of the tensors in it vLLM makes nothing."""
    shards = json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{index} has no weight_map; fetch the checkpoint again")
    return sorted(set(shards.values()))
