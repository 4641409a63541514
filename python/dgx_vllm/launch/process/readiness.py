"""Readiness: the server is ready when it has produced a token, not when its port is open."""

import threading
import time
from collections.abc import Mapping

import httpx

from dgx_vllm.launch.endpoint import ForeignServerError, Ready, Request, endpoint, requests
from dgx_vllm.launch.rendering.launch import Launch

_POLL_SECONDS = 0.25
_CONNECT_SECONDS = 5.0
# The first completion may compile kernels for minutes; a server that dies meanwhile closes the connection.
_FIRST_TOKEN_SECONDS = 1800.0
_EXAMPLE_TOKENS = 48
# What fails for half a minute, at growing distances, fails for good.
_TRIES = 8
_LONGEST_PAUSE_SECONDS = 10.0
# A server that is ending may still answer; one that goes on has the address for good.
_FOREIGN_SECONDS = 30.0
_SHOWN = 200


class _ProbeError(Exception):
    """No token, although the server is healthy."""


class _BusyError(Exception):
    """It takes no requests for now and says when to come again."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Watch(threading.Thread):
    """Asks the server until it answers; ends by itself when `stop` is set.

    The result is in `ready`, the last obstacle in `obstacle` for the progress line, and why it can never be
    ready in `fault`.
    """

    def __init__(self, launch: Launch, environ: Mapping[str, str]) -> None:
        super().__init__(name="readiness", daemon=True)
        self.stop = threading.Event()
        self.ready: Ready | None = None
        self.fault: str | None = None
        self.obstacle = "starting"
        self._endpoint = endpoint(launch, environ)
        self._example = launch.profile.example if launch.profile else "Hello"
        skips = launch.settings.get("skip-tokenizer-init")
        self._ids_alone = bool(skips and skips.value)
        names = (launch.text("served-model-name") or "").split()
        self._model = names[0] if names else launch.model
        self._failures = 0
        self._foreign_since: float | None = None

    def run(self) -> None:
        pause = _POLL_SECONDS
        with self._endpoint.client(timeout=_CONNECT_SECONDS) as client:
            while not self.stop.wait(pause) and not self.fault:
                pause = _POLL_SECONDS
                try:
                    self._check_alive(client)
                    self.ready = self._ask(client)
                except ForeignServerError as error:
                    self._meet_foreigner(str(error))
                except _BusyError as error:
                    self.obstacle, pause = str(error), error.seconds
                except _ProbeError as error:
                    self.obstacle = str(error)
                    self._failures += 1
                    pause = min(_POLL_SECONDS * 2**self._failures, _LONGEST_PAUSE_SECONDS)
                    if self._failures >= _TRIES:
                        self.ready = Ready(self._endpoint, self._model, None, None, str(error))
                except httpx.HTTPStatusError as error:
                    self.obstacle = _describe_answer(error.response)
                except (httpx.TransportError, OSError) as error:
                    self.obstacle = (
                        "starting"
                        if isinstance(error, httpx.ConnectError | OSError)
                        else f"no answer yet ({error})"
                    )
                if self.ready:
                    return

    def _check_alive(self, client: httpx.Client) -> None:
        self._endpoint.own(client.get("/health")).raise_for_status()
        self._foreign_since = None
        self._endpoint.check_listening(_CONNECT_SECONDS)

    def _meet_foreigner(self, met: str) -> None:
        self.obstacle, now = met, time.monotonic()
        self._foreign_since = now if self._foreign_since is None else self._foreign_since
        if now - self._foreign_since >= _FOREIGN_SECONDS:
            self.fault = f"{met}, so that this one never can; choose another address with --port or --uds"

    def _ask(self, client: httpx.Client) -> Ready:
        """Has a token made, by the first kind of request that the server takes.

        Raises:
            _BusyError: it takes none for now.
            _ProbeError: it takes one and fails of it.
        """
        if not self._failures:
            self.obstacle = "healthy, waiting for the first token"
        try:
            self._model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
            examples = requests(self._model, self._example, _EXAMPLE_TOKENS)
            probes = list(zip(requests(self._model, self._example, max_tokens=1), examples, strict=True))
            failed: Exception | None = None
            for probe, example in probes[-1:] if self._ids_alone else probes:
                try:
                    seconds = self._first_token(client, probe)
                except (httpx.HTTPStatusError, ValueError, LookupError) as error:
                    failed = failed or error  # a server without a tokenizer takes another kind
                    continue
                if seconds is not None:
                    return Ready(self._endpoint, self._model, seconds, self._endpoint.curl(example))
        except (httpx.HTTPStatusError, httpx.TransportError, ValueError, LookupError) as error:
            failed = error
        if failed is None:
            return Ready(self._endpoint, self._model, None, None)
        what = _describe_answer(failed.response) if isinstance(failed, httpx.HTTPStatusError) else str(failed)
        raise _ProbeError(f"healthy, but without a token: {what}") from failed

    def _first_token(self, client: httpx.Client, request: Request) -> float | None:
        """Seconds until the completion came, None if the model has no such endpoint.

        Raises:
            httpx.HTTPStatusError: the server failed.
            ValueError: it answered without a token.
            _BusyError: it takes no requests for now.
        """
        began = time.monotonic()
        answer = client.post(request.path, json=dict(request.body), timeout=_FIRST_TOKEN_SECONDS)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in answer.headers:
            after = answer.headers["retry-after"]
            raise _BusyError(
                _describe_answer(answer), min(float(after) if after.isdigit() else 1, _LONGEST_PAUSE_SECONDS)
            )
        if 400 <= answer.status_code < 500:
            return None
        usage = answer.raise_for_status().json()["usage"]
        if usage["completion_tokens"] < 1:
            raise ValueError(f"{request.path} answers without a token")
        return time.monotonic() - began


def _describe_answer(answer: httpx.Response) -> str:
    """Who answers what, with the reason that the server gives."""
    summary = f"{answer.request.url.path} answers {answer.status_code}"
    try:
        reason = " ".join(str(answer.json()["error"]["message"]).split())
    except (ValueError, LookupError, TypeError):
        return summary
    return f"{summary}: {reason[:_SHOWN]}" if reason else summary
