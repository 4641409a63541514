"""Formats: which files of a checkpoint vLLM 0.32 takes, by what there is and by how it is told to read them.

The one place that knows. Names are those of a directory's files or of a repository's, with slashes, so that
what is downloaded, looked for, weighed and refused is the same. vLLM decides in transformers_utils/config.py
(`get_config`), model_executor/model_loader/default_loader.py (`_prepare_weights`), tokenizers/registry.py.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from posixpath import basename, dirname
from typing import Any

HF_CONFIG, MISTRAL_CONFIG = "config.json", "params.json"
#: vLLM lists the files of a repository or directory, those in folders too, for this.
_MISTRAL = "consolidated*.safetensors"
_SAFETENSORS, _BIN, _PT = "*.safetensors", "*.bin", "*.pt"
#: What the files are called, by --load-format; of several the first one that any file has.
_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "hf": (_SAFETENSORS, _BIN, _PT),
    "safetensors": (_SAFETENSORS,),
    "fastsafetensors": (_SAFETENSORS,),
    "instanttensor": (_SAFETENSORS,),
    "runai_streamer": (_SAFETENSORS,),
    "mistral": (_MISTRAL,),
    "pt": (_PT,),
    "npcache": (_BIN, _PT),
}
_INDEXES = {"mistral": "consolidated.safetensors.index.json", "runai_streamer": None}
_INDEX = "model.safetensors.index.json"
#: Each rank has its own files, `model-rank-0-part-0.safetensors` unless the user names them otherwise.
_SHARDED = ("sharded_state", "runai_streamer_sharded")
#: Weights that come from elsewhere, or from nowhere.
_ELSEWHERE = ("dummy", "tensorizer", "modelexpress", "ipc_cache")

LOAD_FORMATS = frozenset({"auto", *_PATTERNS, *_SHARDED, *_ELSEWHERE})
"""What --load-format may be; plugins of vLLM may add to it."""

PACKAGES: Mapping[str, str] = {
    "fastsafetensors": "fastsafetensors",
    "instanttensor": "instanttensor",
    "modelexpress": "modelexpress",
    "runai_streamer": "runai_model_streamer",
    "runai_streamer_sharded": "runai_model_streamer",
    "tensorizer": "tensorizer",
}
"""The Python package that vLLM reads a format with, where it is not part of vLLM."""

_WEIGHTS = (
    *(_SAFETENSORS, _BIN, _PT, "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack"),
    *("*.onnx", "*.onnx_data"),
)
#: What a trainer leaves next to the weights (vLLM's filter_files_not_needed_for_inference).
_LEFT_OVER = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
#: LoadConfig.ignore_patterns by default.
_IGNORED = "original/**/*"
#: A part of a sentence-transformers model, which vLLM loads by itself.
_MODULE = re.compile(r"\d+_\w+")

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "*.model",  # SentencePiece, and tiktoken's that remote code reads
    "*.model.v*",  # Mistral's, by version
    "*tekken*.json",
    "*.tiktoken",
    "*.spm",
    "bpe.codes",
    "byte_maps.json",
    "prophetnet.tokenizer",
    "vocab-*.json",
    "tokenization_*.py",
)
"""Files of which a tokenizer that vLLM can load has one at least, unless it works on bytes."""

_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "DiaTokenizer", "PerceiverTokenizer")
_TYPES_WITHOUT_FILES = ("canine", "dia", "perceiver")

NO_GGUF = "vLLM 0.32 does not read GGUF; give the model's safetensors checkpoint, a directory or owner/name"
# Of ollama and llama.cpp, too, which put the hub's name in front of it.
_GGUF_IDS = re.compile(r"(?:(?:hf\.co|huggingface\.co)/)?[\w.-]+/[\w.-]+:[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """How vLLM is told to read a checkpoint.

    Args:
        load_format: --load-format.
        config_format: --config-format.
        pattern: what --model-loader-extra-config calls the files of a sharded state, None for vLLM's own.
    """

    load_format: str = "auto"
    config_format: str = "auto"
    pattern: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether weights are read from the checkpoint's own files."""
        return self.load_format.lower() not in _ELSEWHERE


AUTO = Reading()


def is_gguf(model: str) -> bool:
    """Whether a model argument has one of the forms that older versions of vLLM and others take for GGUF."""
    return model.lower().endswith(".gguf") or (_GGUF_IDS.fullmatch(model) is not None)


def config_name(names: Collection[str], reading: Reading = AUTO) -> str:
    """The file that vLLM takes the config from, whether or not it is there."""
    if reading.config_format == "auto":
        return MISTRAL_CONFIG if _is_mistral(names) and MISTRAL_CONFIG in names else HF_CONFIG
    return MISTRAL_CONFIG if reading.config_format == "mistral" else HF_CONFIG


def resolved(names: Collection[str], reading: Reading) -> Reading:
    """With the load format that `auto` stands for."""
    return replace(reading, load_format=_load_format(names, reading))


def index_name(names: Collection[str], reading: Reading = AUTO) -> str | None:
    """The file that says which weights count, whether or not it is there; None where vLLM reads none."""
    load_format = _load_format(names, reading)
    if load_format not in _PATTERNS or not any(
        name.endswith(".safetensors") for name in weights(names, reading)
    ):
        return None
    return _INDEXES.get(load_format, _INDEX)


def weights(names: Collection[str], reading: Reading = AUTO) -> tuple[str, ...]:
    """The files of weights that vLLM takes, before the index has its say."""
    # As `glob` finds them: none in folders, and none that is hidden.
    top = sorted(name for name in names if "/" not in name and not name.startswith("."))
    for pattern in patterns(names, reading):
        matching = [name for name in top if fnmatchcase(name, pattern)]
        if matching:
            return tuple(
                name for name in matching if pattern == _SAFETENSORS or not name.endswith(_LEFT_OVER)
            )
    return ()


def patterns(names: Collection[str], reading: Reading = AUTO) -> tuple[str, ...]:
    """What files of weights must be called, the preferred first; nothing where they come from elsewhere."""
    load_format = _load_format(names, reading)
    if load_format in _SHARDED:
        return (re.sub(r"{\w+}", "*", reading.pattern) if reading.pattern else "model-*-part-*.safetensors",)
    return _PATTERNS.get(load_format, ())


def wanted(names: Collection[str], reading: Reading = AUTO) -> set[str]:
    """The files to download: the weights that vLLM takes, never a second format of them, and all else.

    Of a repository that has no such weights, every file.
    """
    every = set(names)
    if reading.load_format.lower() in ("dummy", "tensorizer"):
        return {name for name in every if not _is_weights(name)}
    if not patterns(every, reading):  # these fall back to files, or nobody knows
        reading = replace(reading, load_format="auto")
    taken = set(weights(every, reading))
    if not taken:
        return every
    if _load_format(every, reading) != "mistral":
        taken = _without_mistral(taken)
    others = {name for name in every if _is_weights(name)}
    return (every - others) | taken | {name for name in others if _is_part(name, every, reading)}


def has_tokenizer(names: Collection[str], read: Callable[[str], Mapping[str, Any]]) -> bool:
    """Whether there may be a tokenizer that vLLM can load.

    Args:
        names: the files.
        read: gives the object that one of the JSON files holds.
    """
    if any(fnmatchcase(name, pattern) for name in names for pattern in _VOCABULARIES):
        return True
    configs = [read(name) for name in ("tokenizer_config.json", HF_CONFIG) if name in names]
    return any(_brings_tokenizer(config) for config in configs)


def only_gguf(names: Collection[str]) -> bool:
    """Whether the weights are GGUF and nothing else."""
    weight_files = [name for name in names if _is_weights(name)]
    return bool(weight_files) and all(name.lower().endswith(".gguf") for name in weight_files)


def _brings_tokenizer(config: Mapping[str, Any]) -> bool:
    remote = config.get("auto_map")
    named = str(config.get("tokenizer_class")).removesuffix("Fast")
    return (
        (isinstance(remote, Mapping) and remote.get("AutoTokenizer") is not None)
        or (isinstance(remote, list) and any(remote))  # as older checkpoints say it
        or named in _WITHOUT_FILES
        or config.get("model_type") in _TYPES_WITHOUT_FILES
    )


def _load_format(names: Collection[str], reading: Reading) -> str:
    name = reading.load_format.lower()
    return ("mistral" if _is_mistral(names) else "hf") if name == "auto" else name


def _is_mistral(names: Collection[str]) -> bool:
    return any(fnmatchcase(basename(name), _MISTRAL) for name in names)


def _is_weights(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in _WEIGHTS)


def _without_mistral(names: set[str]) -> set[str]:
    """Without a copy in Mistral's own format, where there is another one."""
    return {name for name in names if not fnmatchcase(name, _MISTRAL)} or names


def _is_part(name: str, every: Collection[str], reading: Reading) -> bool:
    """Whether weights in a folder belong to what is downloaded."""
    folder = dirname(name)
    if not folder:
        return False
    if _MODULE.fullmatch(folder):
        twin = any(dirname(other) == folder and other.endswith(".safetensors") for other in every)
        return name.endswith(".safetensors") or (name.endswith(".bin") and not twin)
    # By the index vLLM knows what to ask the hub for; without one it asks for what is in folders, too.
    return (
        _INDEX not in every
        and patterns(every, reading)[0] == _SAFETENSORS
        and fnmatchcase(name, _SAFETENSORS)
        and not fnmatchcase(name, _IGNORED)
        and any(fnmatchcase(other, _SAFETENSORS) for other in weights(every, reading))
    )
