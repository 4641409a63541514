"""Environment: what huggingface_hub reads once, when it is imported."""

from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

from dgx_vllm.util.errors import UserError

# Seconds without a byte after which a connection counts as stalled.
_TIMEOUT = "HF_HUB_DOWNLOAD_TIMEOUT"
_DEFAULTS = {
    _TIMEOUT: "30",
    # Downloads through hf-xet are known to stall without an error, and leave no part that can be resumed.
    "HF_HUB_DISABLE_XET": "1",
}
_SECONDS = (_TIMEOUT, "HF_HUB_ETAG_TIMEOUT")


def prepare(environ: MutableMapping[str, str]) -> None:
    """Sets what the user has not set; to be called before huggingface_hub is imported.

    Raises:
        UserError: a timeout or the hub's address is malformed; huggingface_hub would end in a traceback.
    """
    for name, value in _DEFAULTS.items():
        environ.setdefault(name, value)
    # Its bars are for terminals, and the lines of `progress` say the same.
    environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    check(environ)


def check(environ: Mapping[str, str]) -> None:
    """Refuses what huggingface_hub would end in a traceback for when it is imported.

    Raises:
        UserError: a timeout or the hub's address is malformed.
    """
    for name in _SECONDS:
        value = environ.get(name, "1")
        if not (value.isascii() and value.isdigit() and int(value)):
            raise UserError(
                f"{name}={value!r} is not a whole number of seconds above 0; unset it, or give one"
            )
    endpoint = environ.get("HF_ENDPOINT")
    if endpoint is not None and not _is_address(endpoint):
        raise UserError(
            f"HF_ENDPOINT={endpoint!r} is not a URL; unset it, or give one such as https://hub.example"
        )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
