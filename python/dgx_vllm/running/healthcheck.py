"""Is the server of a ready file healthy? What a container's health check asks."""

from pathlib import Path

import httpx
import msgspec

from dgx_vllm.launch.endpoint import Endpoint, ForeignServerError
from dgx_vllm.util.errors import FAILURE, UserError

_SECONDS = 5.0


class _Told(msgspec.Struct):
    url: str
    socket: str | None = None
    server: str | None = None
    control: str | None = None


def check(ready_file: Path) -> str:
    """The address of a server that has produced a token and whose `/health` answers.

    Args:
        ready_file: what `dgx-vllm serve --ready-file` writes.

    Raises:
        UserError: the server does not exist, or does not answer within 5 s.
    """
    endpoint = _endpoint(ready_file)
    where = endpoint.where
    try:
        with endpoint.client(_SECONDS) as client:
            endpoint.own(client.get("/health")).raise_for_status()
        endpoint.check_listening(_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise UserError(f"{where}, /health: {error}", FAILURE) from error
    except ForeignServerError as error:
        raise UserError(f"{error}, not the one of {ready_file}", FAILURE) from error
    return where


def _endpoint(ready_file: Path) -> Endpoint:
    try:
        address = msgspec.json.decode(ready_file.read_bytes(), type=_Told)
    except FileNotFoundError as error:
        raise UserError(f"no server has become ready ({ready_file} does not exist)", FAILURE) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{ready_file} is not what `serve --ready-file` writes; name that file", FAILURE
        ) from error
    return Endpoint(address.url, address.socket, server=address.server, control=address.control)
