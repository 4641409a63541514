"""Secrets: keys in files, so that they are in no command line and no unit, and what a key may hold."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.util.errors import UserError

API_KEY = "VLLM_API_KEY"
#: Flags whose values are never printed, and the variables that give the same unseen by other users.
SECRET_FLAGS = {"api-key": API_KEY, "hf-token": "HF_TOKEN"}
# What a header of HTTP carries whole, blanks within it too; vLLM takes an empty key for none.
_SENDABLE = re.compile(r"([!-~]([ -~]*[!-~])?)?")


def with_api_key(environ: Mapping[str, str], file: Path | None) -> dict[str, str]:
    """The environment with the file's key, which vLLM reads from nowhere else but its command line.

    Raises:
        UserError: the file cannot be read, does not hold one key that a client can send, or another key is
            set already.
    """
    if file is None:
        return dict(environ)
    if environ.get(API_KEY):
        raise UserError(f"--api-key-file {file} and {API_KEY} both give a key; keep one")
    try:
        words = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"--api-key-file {file} cannot be read: {reason}") from error
    if len(words) != 1:
        raise UserError(
            f"--api-key-file {file} must hold one key and nothing else; it holds {len(words)} words"
        )
    _check(words, f"--api-key-file {file}")
    return {**environ, API_KEY: words[0]}


def check_alone(file: Path, setting: Setting | None) -> None:
    """Refuses a flag's key together with the file's: vLLM would take the flag's and not say so.

    Args:
        file: of --api-key-file.
        setting: the flag's, None where nobody gave it.

    Raises:
        UserError: names both places.
    """
    if setting is not None:
        raise UserError(f"--api-key-file {file} and {setting.origin} both give a key; keep one")


def check_api_keys(environ: Mapping[str, str], setting: Setting | None) -> None:
    """Refuses keys that no client can send, the launcher's own question among them.

    Args:
        environ: the variable counts where no flag gives a key.
        setting: the flag's, None where nobody gave it.

    Raises:
        UserError: names the place, not the key.
    """
    if setting is None:
        _check([environ.get(API_KEY, "")], API_KEY)
    else:
        _check(setting.value if isinstance(setting.value, tuple) else [setting.text], setting.origin)


def _check(keys: Iterable[str], origin: str) -> None:
    if not all(_SENDABLE.fullmatch(key) for key in keys):
        raise UserError(
            f"{origin} gives a key that no client can send; use only ASCII letters, digits and signs"
        )
