"""0007: an answer that the server ended is an error of status 503, not one that looks finished."""

import asyncio
import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

import pytest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.generate.base.serving import GenerateBaseServing
from vllm.exceptions import RetryableRequestError


def serving(kind: type) -> Any:
    return object.__new__(kind)


@pytest.mark.parametrize("reason", [None, "stop", "length"])
def test_a_finished_answer_is_no_error(reason: str | None) -> None:
    serving(GenerateBaseServing)._raise_if_error(reason, "a")


def test_an_aborted_answer_is_an_error_that_can_be_tried_again() -> None:
    server = serving(GenerateBaseServing)
    with pytest.raises(RetryableRequestError, match="before its answer was complete") as raised:
        server._raise_if_error("abort", "a")
    assert raised.value.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    event = json.loads(server._convert_generation_error_to_streaming_response(raised.value))
    assert event["error"]["code"] == 503
    assert event["error"]["type"] == "ServiceUnavailableError"


def test_an_error_within_a_stream_is_one_in_anthropics_stream() -> None:
    told = {"error": {"message": "the server ended this", "type": "ServiceUnavailableError", "code": 503}}

    async def openai() -> AsyncGenerator[str, None]:
        yield f"data: {json.dumps(told)}\n\n"
        yield "data: [DONE]\n\n"

    async def anthropic() -> list[str]:
        server = serving(AnthropicServingMessages)
        return [event async for event in server.message_stream_converter(openai())]

    (event,) = asyncio.run(anthropic())
    name, data = event.strip().split("\n")
    assert name == "event: error"
    answered = json.loads(data.removeprefix("data: "))
    assert answered["type"] == "error"
    assert answered["error"] == {"type": "ServiceUnavailableError", "message": "the server ended this"}
