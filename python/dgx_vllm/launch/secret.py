"""Secrets that come in files, so that they are in no command line and no unit."""

from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.errors import UserError

_API_KEY = "VLLM_API_KEY"


def with_api_key(environ: Mapping[str, str], file: Path | None) -> dict[str, str]:
    """The environment with the file's key, which vLLM reads from nowhere else but its command line.

    Raises:
        UserError: the file cannot be read, does not hold one line, or another key is set already.
    """
    if file is None:
        return dict(environ)
    if environ.get(_API_KEY):
        raise UserError(f"--api-key-file {file} and {_API_KEY} both give a key; keep one")
    try:
        words = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"--api-key-file {file} cannot be read: {reason}") from error
    if len(words) != 1:
        raise UserError(
            f"--api-key-file {file} must hold one key and nothing else; it holds {len(words)} words"
        )
    return {**environ, _API_KEY: words[0]}
