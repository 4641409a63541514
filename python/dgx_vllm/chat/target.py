"""Which server a chat is with, and under which name it knows the model."""

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from dgx_vllm.chat.sse import refusal
from dgx_vllm.launch.endpoint import Endpoint
from dgx_vllm.launch.settings import secret
from dgx_vllm.running import health, servers
from dgx_vllm.running.servers import Server
from dgx_vllm.util.errors import FAILURE, UserError

_SECONDS = 10.0
_DEFAULT_PORT = "8888"


@dataclass(frozen=True)
class Target:
    """A server that answers.

    Args:
        client: asks it; the target's owner closes it.
        where: its address.
        model: the name to ask for.
    """

    client: httpx.Client
    where: str
    model: str


def find(model: str | None, url: str | None, key_file: Path | None, environ: Mapping[str, str]) -> Target:
    """The server to talk to.

    Args:
        model: with a URL the name to ask for; else a server's name, port or model, see `servers.one`.
        url: the server's address, None to look for one on this machine.
        key_file: holds the key.
        environ: VLLM_API_KEY is the key where no file is given.

    Raises:
        UserError: none is found, it is not ready, or it does not answer.
    """
    if url is not None:
        return _target(_at(url, key_file, environ), url, model)
    known = servers.known(environ)
    if not any(each.runs for each in known):
        # A container's server is in no registry of this user.
        usual = f"127.0.0.1:{environ.get('PORT') or _DEFAULT_PORT}"
        try:
            return _target(_at(usual, key_file, environ), usual, model)
        except UserError as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                raise UserError(f"{servers.NONE}, or name one elsewhere: --url URL", FAILURE) from error
            raise
    server, name = _find_server(model, known)
    if server.state != "ready" or server.url is None:
        raise UserError(f"{server.name} is {server.state}; see dgx-vllm status {server.name}", FAILURE)
    client = health.endpoint(server, environ, key_file).client(_SECONDS)
    return _target(client, server.socket or server.url, name or server.served)


def _find_server(model: str | None, known: Sequence[Server]) -> tuple[Server, str | None]:
    """The server, and the name to ask it for where that is not its own: an adapter's, say."""
    try:
        return servers.one(model, known), None
    except UserError:
        running = [server for server in known if server.runs]
        if model is None or len(running) != 1:
            raise
        return running[0], model


def _at(url: str, key_file: Path | None, environ: Mapping[str, str]) -> httpx.Client:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--url {url}: give an address such as http://127.0.0.1:8888")
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
    key = (environ.get(secret.API_KEY) or "").strip() or None
    if key_file is not None:
        key = secret.with_api_key({}, key_file)[secret.API_KEY]
    endpoint = Endpoint(root, None, key)
    if _is_here(parts.hostname):
        return endpoint.client(_SECONDS)
    return httpx.Client(base_url=root, headers=endpoint.headers, timeout=_SECONDS)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _target(client: httpx.Client, where: str, model: str | None) -> Target:
    """The target once the server has named its models."""
    try:
        response = client.get("/v1/models")
        if response.status_code != httpx.codes.OK:
            raise UserError(f"{where}: {refusal(response)}", FAILURE)
        names = [str(entry["id"]) for entry in response.json()["data"]]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(f"{where} does not answer ({error or type(error).__name__})", FAILURE) from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{where} answers, but it does not speak OpenAI's API", FAILURE) from error
    if not names:
        raise UserError(f"{where} serves no model", FAILURE)
    if model is not None and model not in names:
        matching = [name for name in names if os.path.basename(name) == model]
        if len(matching) != 1:
            raise UserError(f"{where} serves {', '.join(names)}, not {model}; name one of these")
        model = matching[0]
    return Target(client, where, model or names[0])
