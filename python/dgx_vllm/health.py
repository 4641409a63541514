"""Is the server of a ready file healthy? What a container's health check asks."""

import json
from pathlib import Path

import httpx

from dgx_vllm.errors import FAILURE, UserError

_SECONDS = 5.0


def check(ready_file: Path) -> str:
    """The address of a server that has produced a token and whose `/health` answers.

    Args:
        ready_file: what `dgx-vllm serve --ready-file` writes.

    Raises:
        UserError: there is no such server, or it does not answer within 5 s.
    """
    try:
        url = json.loads(ready_file.read_text(encoding="utf-8"))["url"]
    except FileNotFoundError as error:
        raise UserError(f"no server has become ready ({ready_file} is not there)", FAILURE) from error
    try:
        httpx.get(f"{url}/health", timeout=_SECONDS, verify=False).raise_for_status()
    except httpx.HTTPError as error:
        raise UserError(f"{url}/health: {error}", FAILURE) from error
    return url
