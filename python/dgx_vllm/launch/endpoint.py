"""The endpoint: how a client reaches the server, and one request that shows it at work."""

import json
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dgx_vllm.admission.names import CONTROL, SERVER, SERVER_HEADER
from dgx_vllm.launch.rendering.launch import Launch

if TYPE_CHECKING:
    import httpx

_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


_REQUIRED = "2"  # ssl.CERT_REQUIRED, as --ssl-cert-reqs takes it


class ForeignServerError(Exception):
    """Another server answers at the address."""


@dataclass(frozen=True)
class Endpoint:
    """Where the server answers.

    Args:
        url: its root, such as `http://127.0.0.1:8888`.
        socket: the Unix socket that it listens on instead of a port.
        key: the API key that it asks for.
        key_file: the file that the key came from.
        server: the word by which its answers are told from another server's, None where it has none.
        certificates: whether it asks clients for certificates.
        control: the Unix socket at which it answers its launcher, which has no certificate to show.
    """

    url: str
    socket: str | None = None
    key: str | None = None
    key_file: str | None = None
    server: str | None = None
    certificates: bool = False
    control: str | None = None

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

        url, path = ("http://localhost", self.control) if self.control else (self.url, self.socket)
        # The certificate names the public host, not the loopback address asked here; nothing secret is sent
        # but the key that the server on this machine already has.
        transport = httpx.HTTPTransport(uds=path, verify=False)
        return httpx.Client(base_url=url, headers=self.headers, transport=transport, timeout=timeout)

    def own(self, answer: "httpx.Response") -> "httpx.Response":
        """An answer of `/health` or the heartbeat, if it is this server's.

        Raises:
            ForeignServerError: another one gave it.
        """
        if self.server is not None and answer.headers.get(SERVER_HEADER) != self.server:
            raise ForeignServerError(f"another server answers at {self.where}")
        return answer

    def check_listening(self, timeout: float) -> None:
        """Connects to where clients do, if `client` goes another way.

        Raises:
            OSError: nobody listens there.
        """
        if not self.control:
            return
        if self.socket:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                asking.settimeout(timeout)
                asking.connect(self.socket)
        else:
            address = urlsplit(self.url)
            socket.create_connection((address.hostname or "", address.port or 443), timeout).close()

    def curl(self, request: "Request") -> str:
        """A shell line that makes the request; the key is named, not shown."""
        words = ["curl", "-sS"]
        if self.socket:
            words += ["--unix-socket", self.socket]
        if self.url.startswith("https:"):
            words.append("-k")  # a certificate for another name than the loopback address
        if self.certificates:
            words += ["--cert", "CLIENT.crt", "--key", "CLIENT.key"]
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
        curl: a shell line that asks for a completion, or None.
        fault: why no token could be had of a server whose /health answers, None where one could.
    """

    endpoint: Endpoint
    model: str
    first_token: float | None
    curl: str | None
    fault: str | None = None


def endpoint(launch: Launch, environ: Mapping[str, str]) -> Endpoint:
    """Where a client on this machine finds the server that is started with this environment."""
    host = _EVERY_INTERFACE.get(launch.host, launch.host)
    address = f"[{host}]" if ":" in host else host
    scheme = "https" if launch.text("ssl-certfile") or launch.text("ssl-keyfile") else "http"
    path = launch.text("uds")
    keys = (launch.text("api-key") or environ.get("VLLM_API_KEY") or "").split()
    url = f"{scheme}://localhost" if path else f"{scheme}://{address}:{launch.port}"
    return Endpoint(
        url,
        path,
        keys[0] if keys else None,
        launch.key_file,
        environ.get(SERVER),
        asks_for_certificates(launch),
        environ.get(CONTROL),
    )


def asks_for_certificates(launch: Launch) -> bool:
    """Whether clients without a certificate are turned away."""
    secured = launch.text("ssl-certfile") or launch.text("ssl-keyfile")
    return bool(secured) and launch.text("ssl-cert-reqs") == _REQUIRED


def requests(model: str, example: str, max_tokens: int) -> tuple[Request, ...]:
    """A chat completion; a plain one, for models without a chat template; one without a tokenizer."""
    fields = {"model": model, "max_tokens": max_tokens}
    return (
        Request("/v1/chat/completions", {**fields, "messages": [{"role": "user", "content": example}]}),
        Request("/v1/completions", {**fields, "prompt": example}),
        Request("/v1/completions", {**fields, "prompt": [1], "detokenize": False}),
    )
