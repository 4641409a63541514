"""No structured output is a 500: what the server cannot honour is 400 with the reason, streamed or not."""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest
from jsonschema import Draft202012Validator
from serving import QUESTION, Server

pytestmark = pytest.mark.engine

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["c", "f"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"json": {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^\p{L}+$"}}}}, "p{L}"),
    ({"json": {"type": "string", "pattern": "^(?!a).*$"}}, "look-around"),
    ({"json": {"type": "string", "pattern": "(["}}, "Unclosed"),
    ({"json": {"type": "string", "minLength": -5}}, "repetition range"),
    ({"json": {"type": "integer", "not": {"const": 1}}}, "not"),
    ({"json": {"type": "integer", "multipleOf": 7}}, "not supported"),
    ({"json": {"$ref": "#/nowhere"}}, "nowhere"),
    ({"regex": r"\p{L}+"}, "Unicode"),
    ({"regex": "(?!1)[0-9]"}, "Lookahead"),
    ({"regex": "a{3,1}"}, "Lower bound"),
    ({"grammar": "root ::= "}, "Expect"),
    ({"grammar": 'root ::= ("a"'}, "Expect"),
    ({"grammar": "root ::= root"}, "admits no answer"),
    ({"grammar": 'start: "a" b'}, "unknown name"),
    ({"choice": []}, "empty list"),
    ({"structural_tag": "{}"}, "structural_tag"),
]


def completion(server: Server, stream: bool, asked: dict[str, Any]) -> httpx.Response:
    body = {
        "model": server.model,
        "prompt": "1 2",
        "max_tokens": 8,
        "structured_outputs": asked,
        "stream": stream,
    }
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=300)


@pytest.mark.parametrize(("asked", "reason"), REFUSED, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_a_structured_output_that_cannot_be_honoured_is_400(
    server: Server, asked: dict[str, Any], reason: str, stream: bool
) -> None:
    answer = completion(server, stream, asked)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_every_api_says_so_with_its_status(server: Server, stream: bool) -> None:
    schema = {"type": "string", "pattern": "^(?!a).*$"}
    format_ = {"type": "json_schema", "name": "x", "schema": schema}
    asked: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {
            "messages": QUESTION,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        },
        "/v1/responses": {"input": "1 2", "text": {"format": format_}},
        "/v1/messages": {
            "messages": QUESTION,
            "max_tokens": 8,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        },
    }
    statuses = {}
    for path, body in asked.items():
        body = {"model": server.model, "stream": stream, **body}
        answer = httpx.post(f"{server.url}{path}", json=body, timeout=300)
        assert "look-around" in answer.text, path
        statuses[path] = answer.status_code
        if path == "/v1/responses" and stream:
            # Its first event is that the response was created: what follows can only be an event.
            name, data = answer.text.strip().splitlines()[-2:]
            assert name == "event: error"
            assert json.loads(data.removeprefix("data: "))["code"] == "BadRequestError"
    assert statuses == {**dict.fromkeys(asked, 400), "/v1/responses": 200 if stream else 400}


def test_an_honoured_schema_still_answers_after_all_that(server: Server) -> None:
    for asked, _ in REFUSED:
        assert completion(server, False, asked).status_code == 400
    answer = completion(server, False, {"choice": ["yes", "no"]})
    assert answer.json()["choices"][0]["text"] in ("yes", "no")


# --- what a client's tools and schemas get from the demo


def test_openais_client_gets_a_document_of_its_schema(server: Server) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
    done = server.client.chat.completions.create(
        model=server.model,
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=100,
        temperature=0,
        response_format=shape,  # type: ignore[arg-type]
    )
    assert done.choices[0].finish_reason == "stop"
    assert Draft202012Validator(WEATHER).is_valid(json.loads(done.choices[0].message.content or ""))


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str
)
def test_openais_client_gets_its_tool_called(server: Server, choice: Any) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    done = server.client.chat.completions.create(
        model=server.model,
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=100,
        temperature=0,
        tools=[tool],  # type: ignore[list-item]
        tool_choice=choice,
    )
    calls = done.choices[0].message.tool_calls
    assert calls
    assert isinstance(calls[0], openai.types.chat.ChatCompletionMessageFunctionToolCall)
    assert calls[0].function.name == "weather"
    assert Draft202012Validator(WEATHER).is_valid(json.loads(calls[0].function.arguments))


def test_anthropics_client_gets_its_tool_called(server: Server) -> None:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=300)
    said = client.messages.create(
        model=server.model,
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=100,
        tools=[{"name": "weather", "input_schema": WEATHER}],  # type: ignore[list-item]
        tool_choice={"type": "tool", "name": "weather"},
    )
    (call,) = [block for block in said.content if block.type == "tool_use"]
    assert (call.name, said.stop_reason) == ("weather", "tool_use")
    assert Draft202012Validator(WEATHER).is_valid(call.input)
