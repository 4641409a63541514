"""Paths: those that vLLM's flags name, which a unit would look for in another directory."""

from collections.abc import Mapping
from pathlib import Path

from dgx_vllm import checkpoint
from dgx_vllm.errors import UserError
from dgx_vllm.launch.settings import Setting, Source

_FLAGS = (
    "allowed-local-media-path",
    "chat-template",
    "generation-config",
    "hf-config-path",
    "log-config-file",
    "lora-modules",
    "mm-encoder-fp8-scale-path",
    "mm-encoder-fp8-scale-save-path",
    "reasoning-parser-plugin",
    "spec-model",
    "ssl-ca-certs",
    "ssl-certfile",
    "ssl-keyfile",
    "tokenizer",
    "tool-parser-plugin",
)


def check(settings: Mapping[str, Setting]) -> None:
    """Refuses a relative path.

    Raises:
        UserError: there is one; gives it as it should be written.
    """
    for name in _FLAGS:
        setting = settings.get(name)
        if setting is None or setting.source not in (Source.FLAG, Source.CONFIG_FILE):
            continue
        origin = f"--{name}" if setting.source is Source.FLAG else f"{setting.origin}, {name}"
        for word in setting.value if isinstance(setting.value, tuple) else (setting.text,):
            _check(origin, word.partition("=")[2] if name == "lora-modules" else word)


def _check(origin: str, word: str) -> None:
    # A chat template may be given as its text, and a module by JSON; neither is a place.
    if "{" in word or word.startswith("/") or not checkpoint.looks_like_path(word):
        return
    whole = Path(word).expanduser().absolute()
    raise UserError(f"{origin} {word}: the service runs in another directory; give the whole path, {whole}")
