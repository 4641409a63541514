"""What an OpenAI client gets from `dgx-vllm serve`."""

import concurrent.futures
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
from serving import Server

from dgx_vllm import demo
from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

PROMPT = "1 2 3 4"
LONGEST = 100_000  # tokens; no model that is served here has such a context


def complete(client: openai.OpenAI, model: str, prompt: str, **options: object) -> openai.types.Completion:
    return client.completions.create(
        **{"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0, **options}  # type: ignore[call-overload]
    )


def test_the_client_lists_the_served_model(client: openai.OpenAI, server: Server) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert server.model == "demo"


def test_streams_a_chat_completion(client: openai.OpenAI, server: Server) -> None:
    """The same text as in one piece, in more than one chunk, with the usage at the end."""
    messages = [dict(message) for message in demo.chats()[-1].messages]
    request = {"model": server.model, "messages": messages, "max_tokens": 40, "temperature": 0}
    whole = client.chat.completions.create(**request)
    chunks = list(
        client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].usage == whole.usage


def test_usage_counts_prompt_and_completion_tokens(client: openai.OpenAI, server: Server) -> None:
    short = complete(client, server.model, PROMPT, max_tokens=3, extra_body={"ignore_eos": True}).usage
    longer = complete(
        client, server.model, f"{PROMPT} 5 6 7 8", max_tokens=5, extra_body={"ignore_eos": True}
    ).usage
    assert short is not None
    assert longer is not None
    assert (short.completion_tokens, longer.completion_tokens) == (3, 5)
    assert longer.prompt_tokens > short.prompt_tokens > 0
    assert short.total_tokens == short.prompt_tokens + 3


def test_stops_at_a_stop_string(client: openai.OpenAI, server: Server) -> None:
    text = complete(client, server.model, PROMPT, extra_body={"ignore_eos": True}).choices[0].text
    assert len(text) > 8
    stop = text[5:7]
    stopped = complete(client, server.model, PROMPT, stop=[stop], extra_body={"ignore_eos": True}).choices[0]
    assert stopped.text == text.partition(stop)[0]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize("row", demo.completions(), ids=lambda row: row.prompt)
def test_the_demo_continues_sequences(client: openai.OpenAI, server: Server, row: demo.Completion) -> None:
    choice = complete(client, server.model, row.prompt, max_tokens=80).choices[0]
    assert choice.text.startswith(row.text)
    if row.stops:
        assert (choice.text, choice.finish_reason) == (row.text, "stop")


# --- bad requests ---------------------------------------------------------------------------------------


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        complete(client, "no-such-model", PROMPT)


def test_a_prompt_that_is_too_long(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="context length"):
        complete(client, server.model, "1 " * LONGEST)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"top_p": 2}, {"max_tokens": -1}, {"n": 0}, {"logprobs": -5}],
    ids=str,
)
def test_parameters_out_of_range(client: openai.OpenAI, server: Server, options: dict[str, float]) -> None:
    with pytest.raises(openai.BadRequestError):
        complete(client, server.model, PROMPT, **options)


@pytest.mark.parametrize("body", ["{not json", "", "[]", '{"model": "demo"}', '{"model": 5, "prompt": {}}'])
def test_bodies_that_are_no_request(server: Server, body: str) -> None:
    answer = httpx.post(
        f"{server.url}/v1/completions",
        content=body,
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE,
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


def test_a_path_that_is_not_there(server: Server) -> None:
    assert httpx.get(f"{server.url}/v1/no-such-thing", timeout=PATIENCE).status_code == 404


def test_the_server_still_serves_after_refusals(client: openai.OpenAI, server: Server) -> None:
    assert complete(client, server.model, PROMPT).choices[0].text


# --- together -------------------------------------------------------------------------------------------


def test_four_clients_at_once_get_what_each_gets_alone(server: Server) -> None:
    prompts = [row.prompt for row in demo.completions()[:4]]
    alone = [complete(server.client, server.model, prompt).choices[0].text for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        together = list(
            clients.map(
                lambda prompt: complete(server.client, server.model, prompt).choices[0].text, prompts * 3
            )
        )
    assert together == alone * 3
    assert len(set(alone)) > 1


# --- as started -----------------------------------------------------------------------------------------


CURL = os.environ.get("CURL") or shutil.which("curl")


@pytest.mark.skipif(CURL is None, reason="there is no curl, and CURL names none")
def test_the_printed_curl_line_works(server: Server) -> None:
    line = server.log.read_text(errors="replace").split("try it: ")[1].splitlines()[0]
    path = f"{Path(str(CURL)).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path}
    done = subprocess.run(["sh", "-c", line], env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert '"finish_reason"' in done.stdout


def test_listens_on_loopback_only(server: Server) -> None:
    """The API and whatever vLLM's processes use among themselves."""
    sockets = {
        link.readlink().name
        for pid in server.descendants()
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if str(link.readlink()).startswith("socket:")
    }
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    ]
    port = int(server.url.rsplit(":", 1)[1])
    assert f"0100007F:{port:04X}" in listening
    assert {address.split(":")[0] for address in listening} == {"0100007F"}
