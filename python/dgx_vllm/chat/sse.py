"""One answer, as it comes: the server-sent events of /v1/chat/completions."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from dgx_vllm.util.errors import FAILURE, UserError

# How long a question waits in the server's queue is the server's affair; an address where nobody is, is not.
_TIMEOUT = httpx.Timeout(None, connect=10.0)


@dataclass(frozen=True)
class Piece:
    """A part of an answer: what the model thinks, what it says, or in the end what it took.

    Args:
        kind: which of these.
        text: the words; for `end` the reason that the server gives, such as `stop` or `length`.
        tokens: of the whole answer, for `end` where the server counts them.
    """

    kind: Literal["reasoning", "text", "end"]
    text: str
    tokens: int | None = None


def answer(
    client: httpx.Client, model: str, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]
) -> Generator[Piece, None, None]:
    """Asks, and yields the answer piece by piece; closing the iterator has the server stop.

    Args:
        client: of the server.
        model: the name to ask for.
        messages: the conversation so far, in OpenAI's form.
        options: further fields of the request, such as `temperature`.

    Raises:
        UserError: the server refuses, fails, or is gone before the end.
    """
    body = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    reason: str | None = None
    tokens: int | None = None
    try:
        with client.stream("POST", "/v1/chat/completions", json=body, timeout=_TIMEOUT) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise UserError(refusal(response), FAILURE)
            for event in _events(response):
                usage = event.get("usage")
                if isinstance(usage, dict):
                    tokens = usage.get("completion_tokens")
                for choice in event.get("choices") or ():
                    yield from _pieces(choice.get("delta") or {})
                    reason = choice.get("finish_reason") or reason
    except httpx.HTTPError as error:
        raise UserError(
            f"the server is gone or closed the connection ({error or type(error).__name__})", FAILURE
        ) from error
    if reason is None:
        raise UserError("the answer was cut off: the server ended it without a reason", FAILURE)
    yield Piece("end", reason, tokens)


def refusal(response: httpx.Response) -> str:
    """What a server says that refuses, in one line with the status, and the remedy where it is known."""
    try:
        body = response.json()
        error = body.get("error", body)
        message = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        message = response.text[:200]
    text = " ".join(str(message or response.reason_phrase).split())
    remedy = {
        401: "; give the key: --api-key-file FILE, or VLLM_API_KEY",
        404: "; check the model's name: dgx-vllm status",
        503: "; try again in a moment",
    }.get(response.status_code, "")
    return f"the server answers {response.status_code}: {text}{remedy}"


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue  # comments keep the connection alive
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError as error:
            raise UserError(f"the server sent something other than JSON: {data[:80]!r}", FAILURE) from error
        if isinstance(event, dict):
            if "error" in event:
                fault = event["error"]
                message = fault.get("message") if isinstance(fault, dict) else fault
                raise UserError(f"the server failed while answering: {message}", FAILURE)
            yield event


def _pieces(delta: Mapping[str, Any]) -> Iterator[Piece]:
    thought = delta.get("reasoning") or delta.get("reasoning_content")
    if thought:
        yield Piece("reasoning", str(thought))
    if delta.get("content"):
        yield Piece("text", str(delta["content"]))
