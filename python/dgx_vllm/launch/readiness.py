"""Readiness: the server is ready when it has produced a token, not when its port is open."""

import threading
import time
from collections.abc import Mapping

import httpx

from dgx_vllm.launch.command import Launch
from dgx_vllm.launch.endpoint import Ready, Request, endpoint, requests

_POLL_SECONDS = 0.25
# The first completion may compile kernels for minutes; a server that dies meanwhile closes the connection.
_FIRST_TOKEN_SECONDS = 1800.0
_EXAMPLE_TOKENS = 48


class Watch(threading.Thread):
    """Asks the server until it answers; ends by itself when `stop` is set.

    The result is in `ready`, the last obstacle in `obstacle` for the progress line.
    """

    def __init__(self, launch: Launch, environ: Mapping[str, str]) -> None:
        super().__init__(name="readiness", daemon=True)
        self.stop = threading.Event()
        self.ready: Ready | None = None
        self.obstacle = "starting"
        self._endpoint = endpoint(launch, environ)
        self._example = launch.profile.example if launch.profile else "Hello"

    def run(self) -> None:
        with self._endpoint.client(timeout=5.0) as client:
            while not self.stop.wait(_POLL_SECONDS):
                try:
                    self.ready = self._ask(client)
                except httpx.HTTPStatusError as error:
                    self.obstacle = f"{error.request.url.path} answers {error.response.status_code}"
                except (httpx.TransportError, ValueError, LookupError) as error:
                    self.obstacle = (
                        "starting" if isinstance(error, httpx.ConnectError) else f"no answer yet ({error})"
                    )
                if self.ready:
                    return

    def _ask(self, client: httpx.Client) -> Ready:
        client.get("/health").raise_for_status()
        self.obstacle = "healthy, waiting for the first token"
        model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
        shown = requests(model, self._example, _EXAMPLE_TOKENS)
        for probe, example in zip(requests(model, self._example, max_tokens=1), shown, strict=True):
            seconds = self._first_token(client, probe)
            if seconds is not None:
                return Ready(self._endpoint, model, seconds, self._endpoint.curl(example))
        return Ready(self._endpoint, model, None, None)

    def _first_token(self, client: httpx.Client, request: Request) -> float | None:
        """Seconds until the completion came, None if the model has no such endpoint.

        Raises:
            httpx.HTTPStatusError: the server failed.
            ValueError: it answered without a token.
        """
        began = time.monotonic()
        answer = client.post(request.path, json=dict(request.body), timeout=_FIRST_TOKEN_SECONDS)
        if 400 <= answer.status_code < 500:
            return None
        usage = answer.raise_for_status().json()["usage"]
        if usage["completion_tokens"] < 1:
            raise ValueError("a completion without a token")
        return time.monotonic() - began
