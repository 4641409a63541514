"""Places: which of vLLM's flags name a file, a repository or a piece of Python, and where in their values."""

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.vllm_flags import flags


class Kind(enum.Enum):
    """What a word names."""

    PATH = enum.auto()
    """A file or directory, or an address with a scheme, such as `s3://bucket`."""
    TEMPLATE = enum.auto()
    """A chat template: its file, its text, or the name of one of vLLM's own."""
    REPOSITORY = enum.auto()
    """A directory, or a repository of the hub."""
    PLUGIN = enum.auto()
    """A Python file, or a module."""
    MODULE = enum.auto()
    """`module`."""
    OBJECT = enum.auto()
    """`module.name`."""
    TYPE = enum.auto()
    """`module:name`."""
    OTHER = enum.auto()
    """A text within JSON that no flag is known to take for a place."""


@dataclass(frozen=True)
class Place:
    """One word that names something.

    Args:
        setting: whose it is.
        field: where in a JSON value, by dots; empty for the value itself.
        word: as it was given.
        kind: what it names.
    """

    setting: Setting
    field: str
    word: str
    kind: Kind

    @property
    def origin(self) -> str:
        """The place in the user's words."""
        name, origin = self.setting.name, self.setting.origin
        whole = origin if f"--{name}" in origin else f"{origin}, {name}"
        return f"{whole}.{self.field}" if self.field else whole


#: By flag, and by field of its JSON value; "*" is each value of an object. What --model and --config
#: name is looked at where they are read.
FIELDS: dict[str, dict[str, Kind]] = {
    "allowed-local-media-path": {"": Kind.PATH},
    "chat-template": {"": Kind.TEMPLATE},
    "compilation-config": {
        "backend": Kind.OBJECT,
        "cache_dir": Kind.PATH,
        "debug_dump_path": Kind.PATH,
        "inductor_passes.*": Kind.OBJECT,
    },
    "default-mm-loras": {"*": Kind.REPOSITORY},
    "distributed-executor-backend": {"": Kind.OBJECT},
    "download-dir": {"": Kind.PATH},
    "ec-manager-config": {"encoder_cache_manager_cls": Kind.OBJECT},
    "ec-transfer-config": {
        "ec_connector_extra_config.shared_storage_path": Kind.PATH,
        "ec_connector_module_path": Kind.MODULE,
    },
    "generation-config": {"": Kind.REPOSITORY},
    "hf-config-path": {"": Kind.REPOSITORY},
    "kv-transfer-config": {
        "kv_connector_extra_config.cache_policy_module_path": Kind.MODULE,
        "kv_connector_extra_config.disk_path": Kind.PATH,
        "kv_connector_extra_config.hf3fs_storage_path": Kind.PATH,
        "kv_connector_extra_config.shared_storage_path": Kind.PATH,
        "kv_connector_extra_config.spec_module_path": Kind.MODULE,
        "kv_connector_module_path": Kind.MODULE,
    },
    "log-config-file": {"": Kind.PATH},
    "logging-config": {"pylogging_config_file": Kind.PATH},
    "logits-processors": {"": Kind.TYPE},
    "lora-modules": {"": Kind.REPOSITORY},
    "middleware": {"": Kind.OBJECT},
    "mm-encoder-fp8-scale-path": {"": Kind.PATH},
    "mm-encoder-fp8-scale-save-path": {"": Kind.PATH},
    "model-class-overrides": {"*": Kind.TYPE},
    "model-loader-extra-config": {
        "tensorizer_config.encryption_keyfile": Kind.PATH,
        "tensorizer_config.tensorizer_dir": Kind.PATH,
        "tensorizer_config.tensorizer_uri": Kind.PATH,
    },
    "profiler-config": {"proton_profiler_dir": Kind.PATH, "torch_profiler_dir": Kind.PATH},
    "reasoning-parser-plugin": {"": Kind.PLUGIN},
    "scheduler-cls": {"": Kind.OBJECT},
    "spec-model": {"": Kind.REPOSITORY},
    "speculative-config": {"draft_load_config.download_dir": Kind.PATH, "model": Kind.REPOSITORY},
    "ssl-ca-certs": {"": Kind.PATH},
    "ssl-certfile": {"": Kind.PATH},
    "ssl-keyfile": {"": Kind.PATH},
    "structured-outputs-config": {"reasoning_parser_plugin": Kind.PLUGIN},
    "tokenizer": {"": Kind.REPOSITORY},
    "tool-parser-plugin": {"": Kind.PLUGIN},
    "uds": {"": Kind.PATH},
    "worker-cls": {"": Kind.OBJECT},
    "worker-extension-cls": {"": Kind.OBJECT},
}
#: Values that name nothing.
_NAMES = {
    "distributed-executor-backend": ("mp", "ray", "uni", "external_launcher"),
    "generation-config": ("auto", "vllm"),
    "worker-cls": ("auto",),
}


def found(settings: Mapping[str, Setting]) -> Iterator[Place]:
    """Every word of the settings that names something.

    Args:
        settings: what counts, by name; their values have been checked, see `flags.Flag.check`.
    """
    for setting in settings.values():
        known = FIELDS.get(setting.name, {})
        if "" in known:
            for word in setting.value if isinstance(setting.value, tuple) else (setting.text,):
                yield from _of_word(setting, word, known[""], settings)
            continue
        flag = flags.load().get(setting.name)
        fields = _json(setting) if flag and (known or flag.kind.startswith("json")) else None
        for path, text in _texts(fields, ()):
            kind = known.get(".".join(path)) or known.get(".".join((*path[:-1], "*"))) or Kind.OTHER
            if setting.name == "speculative-config" and path == ("model",):
                kind = _of_draft(settings)
            if text:
                yield Place(setting, ".".join(path), text, kind)


def _of_word(setting: Setting, word: str, kind: Kind, settings: Mapping[str, Setting]) -> Iterator[Place]:
    if setting.name == "lora-modules":
        if word not in ("", "None"):  # which vLLM passes over
            yield Place(setting, "", _adapter(word), kind)
        return
    if setting.name == "spec-model":
        kind = _of_draft(settings)
    if word and word not in _NAMES.get(setting.name, ()):
        yield Place(setting, "", word, kind)


def _adapter(word: str) -> str:
    """The path or repository of an adapter, told as vLLM's LoRAParserAction tells it."""
    if "=" in word and "," not in word:
        return word.partition("=")[2]
    return str(json.loads(word)["path"])  # checked with the flag


def _of_draft(settings: Mapping[str, Setting]) -> Kind:
    short, whole = settings.get("spec-method"), settings.get("speculative-config")
    fields = _json(whole) if whole else None
    method = short.text if short else fields.get("method") if isinstance(fields, dict) else None
    return Kind.OBJECT if method == "custom_class" else Kind.REPOSITORY


def _json(setting: Setting) -> Any:
    if isinstance(setting.value, dict):
        return setting.value
    for text in (setting.text, flags.expanded(setting.text)):
        try:
            return json.loads(text)
        except ValueError:  # such as the other half of `json-or-text`
            continue
    return None


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts of a JSON value with their fields, whose names may have dashes for underscores."""
    if isinstance(value, str) and path:
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key.replace("-", "_")))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
