"""What a running server says of itself when it is asked."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import httpx

from dgx_vllm.launch.endpoint import Endpoint, ForeignServerError
from dgx_vllm.launch.settings import secret
from dgx_vllm.running.report import Health
from dgx_vllm.running.servers import Server
from dgx_vllm.util.errors import UserError

_SECONDS = 5.0
_METRIC = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? ([-+.\deE]+)$", re.MULTILINE)


def endpoint(server: Server, environ: Mapping[str, str], key_file: Path | None = None) -> Endpoint:
    """Where the server answers, with the key to give.

    Args:
        server: one whose address is known.
        environ: VLLM_API_KEY counts where no file is known.
        key_file: counts before the file that the server names.

    Raises:
        UserError: the file that was given cannot be read, or holds no key.
    """
    assert server.url is not None
    file = key_file or (Path(server.key_file) if server.key_file else None)
    key: str | None = (environ.get("VLLM_API_KEY") or "").strip() or None
    if file is not None and (key_file is not None or os.access(file, os.R_OK)):
        key = secret.with_api_key({}, file)["VLLM_API_KEY"]
    return Endpoint(
        server.url,
        server.socket,
        key,
        str(file) if file else None,
        server=server.server,
        control=server.control if server.control and os.access(server.control, os.W_OK) else None,
    )


def ask(server: Server, environ: Mapping[str, str]) -> Health | None:
    """What the server answers; None where it has no address yet."""
    if server.url is None or server.state != "ready":
        return None
    try:
        where = endpoint(server, environ)
        with where.client(_SECONDS) as client:
            where.own(client.get("/health")).raise_for_status()
            answer = client.get("/metrics")
    except httpx.HTTPStatusError as error:
        return Health(healthy=False, problem=f"/health answers {error.response.status_code}")
    except ForeignServerError as error:
        return Health(healthy=False, problem=str(error))
    except (httpx.HTTPError, httpx.InvalidURL, UserError) as error:
        return Health(healthy=False, problem=f"no answer ({error})")
    if answer.status_code != httpx.codes.OK:
        return Health(healthy=True)
    sums: dict[str, float] = {}
    for name, value in _METRIC.findall(answer.text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return Health(
        healthy=True,
        running=_whole(sums.get("num_requests_running")),
        waiting=_whole(sums.get("num_requests_waiting")),
        kv_cache=sums.get("kv_cache_usage_perc"),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
