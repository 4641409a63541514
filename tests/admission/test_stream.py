"""Streams: an error before the first event is a status, a later one an event; the rest passes as it is."""

import asyncio
import json
from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest

from dgx_vllm.admission import stream
from dgx_vllm.admission.middleware import Admission

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"access-control-allow-origin", b"*"),
    ],
}
ERROR = {"error": {"message": "no such pattern", "type": "BadRequestError", "param": None, "code": 400}}
ANTHROPIC = {"type": "error", "error": {"message": "the server ended it", "type": "ServiceUnavailableError"}}


def answered(*parts: Any, path: str = "/v1/completions", stopping: bool = False) -> list[Any]:
    """What a client gets of a stream of these parts: bytes, an exception, or a number of seconds to wait."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for part in parts:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, float):
                await asyncio.sleep(part)
                sent.append("waited")
            else:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message: Any) -> None:
        sent.append(message)

    args = Namespace(
        api_key=None, allowed_origins=[], allow_credentials=False, allowed_methods=[], allowed_headers=[]
    )
    state = SimpleNamespace(args=args, stopping=stopping)
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "app": SimpleNamespace(state=state),
    }
    asyncio.run(Admission(app)(scope, None, send))  # type: ignore[arg-type]
    return sent


def body_of(messages: list[Any]) -> bytes:
    return b"".join(each.get("body", b"") for each in messages if each != "waited")


def test_a_stream_passes_as_it_is() -> None:
    parts = [b'data: {"choices": []}\n\n', b'data: {"error": "within"}\n\n', b"data: [DONE]\n\n"]
    sent = answered(*parts)
    assert sent[0] == START
    assert [each["body"] for each in sent[1:]] == [*parts, b""]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (f"data: {json.dumps(ERROR)}\n\n", 400),
        (f"event: error\ndata: {json.dumps(ANTHROPIC)}\n\n", 503),
        ('data: {"error": {"message": "?", "type": "?"}}\n\n', 500),
    ],
)
def test_a_stream_that_begins_with_an_error_has_its_status(event: str, status: int) -> None:
    start, body = answered(event.encode(), b"data: [DONE]\n\n")
    headers = dict(start["headers"])
    assert start["status"] == status
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"access-control-allow-origin"] == b"*"
    assert int(headers[b"content-length"]) == len(body["body"])
    assert (b"retry-after" in headers) == (status == 503)
    assert json.loads(body["body"]) == json.loads(event.partition("data: ")[2])


@pytest.mark.parametrize(
    "first", [b"data: [DONE]\n\n", b": keep-alive\n\n", b"data: {\n\n", b'data: ["error"]\n\n']
)
def test_what_is_no_error_is_none(first: bytes) -> None:
    sent = answered(first)
    assert sent[0] == START
    assert body_of(sent) == first


def test_a_stream_that_breaks_at_once_has_a_status() -> None:
    start, body = answered(ValueError("a bad pattern"), path="/v1/responses")
    assert start["status"] == 400
    assert json.loads(body["body"])["error"]["message"] == "a bad pattern"


def test_a_stream_that_breaks_later_ends_with_an_error_event() -> None:
    sent = answered(b"event: response.created\ndata: {}\n\n", RuntimeError("lost"), path="/v1/responses")
    assert sent[0] == START
    assert sent[-1]["more_body"] is False
    name, data = sent[-1]["body"].decode().strip().split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["message"] == "lost"


def test_an_engine_that_takes_its_time_does_not_hold_the_start_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HOLD_SECONDS", 0.01)
    sent = answered(0.5, f"data: {json.dumps(ERROR)}\n\n".encode())
    assert sent[:2] == [START, "waited"]
    assert json.loads(body_of(sent).decode().strip().removeprefix("data: ")) == ERROR


def test_a_server_that_stops_takes_no_new_requests() -> None:
    start, body = answered(b"data: {}\n\n", stopping=True)
    assert start["status"] == 503
    assert (b"retry-after", b"10") in start["headers"]
    assert "stopping" in json.loads(body["body"])["error"]["message"]
    assert answered(b"x", path="/abort_requests", stopping=True)[0]["status"] == 200
