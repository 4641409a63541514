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
    given = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    if given:
        return _expanded(given, environ)
    home = environ.get("HF_HOME")
    return (_expanded(home, environ) if home else _root(environ) / "huggingface") / "hub"


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether huggingface_hub is told not to ask the hub."""
    given = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return given.lower() in ("1", "true", "yes", "on")


def vllm(environ: Mapping[str, str]) -> Path:
    """Where compiled kernels go; raises as `hub`."""
    given = environ.get("VLLM_CACHE_ROOT")
    return Path(given).expanduser() if given else _root(environ) / "vllm"


def _expanded(text: str, environ: Mapping[str, str]) -> Path:
    """With variables and the home directory, as huggingface_hub expands them; unknown ones stay."""

    def value(found: re.Match[str]) -> str:
        return environ.get(found[1] or found[2], found[0])

    return Path(re.sub(r"\$(?:(\w+)|{([^}]*)})", value, os.path.expanduser(text)))


def _root(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given).expanduser()
    try:
        return Path(environ.get("HOME") or "~").expanduser() / ".cache"
    except RuntimeError as error:
        raise UserError(
            "HOME is not set and this user has no home directory; set HOME to a writable one",
            FAILURE,
        ) from error
