"""Where vLLM and huggingface_hub keep what they download and compile, by their own variables."""

from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.errors import FAILURE, UserError


def hub(environ: Mapping[str, str]) -> Path:
    """Where downloads go.

    Raises:
        UserError: no variable says so and the user has no home directory.
    """
    given = environ.get("HF_HUB_CACHE")
    if given:
        return Path(given).expanduser()
    home = environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _root(environ) / "huggingface") / "hub"


def vllm(environ: Mapping[str, str]) -> Path:
    """Where compiled kernels go; raises as `hub`."""
    given = environ.get("VLLM_CACHE_ROOT")
    return Path(given).expanduser() if given else _root(environ) / "vllm"


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether the hub may not be asked, as huggingface_hub reads it."""
    return environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _root(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given).expanduser()
    try:
        return Path(environ.get("HOME") or "~").expanduser() / ".cache"
    except RuntimeError as error:
        raise UserError(
            "HOME is not set and this user has no home directory; set HOME to one that can be written",
            FAILURE,
        ) from error
