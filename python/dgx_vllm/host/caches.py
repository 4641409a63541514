"""Where vLLM and huggingface_hub keep what they download and compile, by their own variables."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.util.errors import FAILURE, UserError


def hub(environ: Mapping[str, str]) -> Path:
    """Where downloads go.

    Raises:
        UserError: no variable says so and the user has no home directory.
    """
    directory = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    if directory:
        return _expanded(directory, environ)
    home = environ.get("HF_HOME")
    return (_expanded(home, environ) if home else _root(environ) / "huggingface") / "hub"


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether huggingface_hub is told not to ask the hub."""
    value = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.lower() in ("1", "true", "yes", "on")


def vllm(environ: Mapping[str, str]) -> Path:
    """Where compiled kernels go; raises as `hub`."""
    directory = environ.get("VLLM_CACHE_ROOT")
    return Path(directory).expanduser() if directory else _root(environ) / "vllm"


def _expanded(text: str, environ: Mapping[str, str]) -> Path:
    """With variables and the home directory, as huggingface_hub expands them; unknown ones stay."""

    def value(match: re.Match[str]) -> str:
        return environ.get(match[1] or match[2], match[0])

    return Path(re.sub(r"\$(?:(\w+)|{([^}]*)})", value, os.path.expanduser(text)))


def _root(environ: Mapping[str, str]) -> Path:
    directory = environ.get("XDG_CACHE_HOME")
    if directory:
        return Path(directory).expanduser()
    try:
        return Path(environ.get("HOME") or "~").expanduser() / ".cache"
    except RuntimeError as error:
        raise UserError(
            "HOME is not set and this user has no home directory; set HOME to a writable one",
            FAILURE,
        ) from error
