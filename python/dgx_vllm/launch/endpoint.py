"""The endpoint: how a client reaches the server, and one request that shows it at work."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgx_vllm.launch.command import Launch

if TYPE_CHECKING:
    import httpx

_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True)
class Endpoint:
    """Where the server answers.

    Args:
        url: its root, such as `http://127.0.0.1:8888`.
        socket: the Unix socket that it listens on instead of a port.
        key: the API key that it asks for.
        key_file: the file that the key came from.
    """

    url: str
    socket: str | None = None
    key: str | None = None
    key_file: str | None = None

    @property
    def where(self) -> str:
        """What names it: the socket, else the root."""
        return self.socket or self.url

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def client(self, timeout: float) -> "httpx.Client":
        """A client of the server on this machine; `timeout` is in seconds."""
        import httpx  # a dry run has no use for it

        # The certificate names the public host, not the loopback address asked here; nothing secret is sent
        # but the key that the server on this machine already has.
        transport = httpx.HTTPTransport(uds=self.socket, verify=False)
        return httpx.Client(base_url=self.url, headers=self.headers, transport=transport, timeout=timeout)

    def curl(self, request: "Request") -> str:
        """A shell line that makes the request; the key is named, not shown."""
        words = ["curl", "-sS"]
        if self.socket:
            words += ["--unix-socket", self.socket]
        if self.url.startswith("https:"):
            words.append("-k")  # a certificate for another name than the loopback address
        words += [self.url + request.path, "-H", "Content-Type: application/json"]
        line = shlex.join([*words, "-d", json.dumps(request.body)])
        if not self.key:
            return line
        key = f"$(cat {shlex.quote(self.key_file)})" if self.key_file else "$VLLM_API_KEY"
        return f'{line} -H "Authorization: Bearer {key}"'


@dataclass(frozen=True)
class Request:
    """One POST of JSON."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Ready:
    """A server that has answered.

    Args:
        endpoint: where.
        model: the name to ask for.
        first_token: seconds that the first completion took, None if the model generates no text.
        curl: a shell line that asks for a completion, None likewise.
    """

    endpoint: Endpoint
    model: str
    first_token: float | None
    curl: str | None


def endpoint(launch: Launch, environ: Mapping[str, str]) -> Endpoint:
    """Where a client on this machine finds the server."""
    host = _EVERY_INTERFACE.get(launch.host, launch.host)
    address = f"[{host}]" if ":" in host else host
    scheme = "https" if launch.text("ssl-certfile") else "http"
    socket = launch.text("uds")
    keys = (launch.text("api-key") or environ.get("VLLM_API_KEY") or "").split()
    url = "http://localhost" if socket else f"{scheme}://{address}:{launch.port}"
    return Endpoint(url, socket, keys[0] if keys else None, launch.key_file)


def requests(model: str, example: str, max_tokens: int) -> tuple[Request, ...]:
    """A chat completion, then a plain one for models without a chat template."""
    chat = {"model": model, "messages": [{"role": "user", "content": example}], "max_tokens": max_tokens}
    plain = {"model": model, "prompt": example, "max_tokens": max_tokens}
    return Request("/v1/chat/completions", chat), Request("/v1/completions", plain)
