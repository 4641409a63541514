"""A stop: running answers have their time, and who is cut off can tell."""

import concurrent.futures
import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import QUESTION, Server, serving

pytestmark = pytest.mark.engine

# Anthropic's requests cannot ignore the end of an answer: a schema puts it off.
LONG_LIST = {"type": "array", "items": {"type": "integer"}, "minItems": 400}
#: Each API's request for more tokens than a stop leaves time for.
LONG: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION, "max_tokens": 900, "ignore_eos": True},
    "/v1/completions": {"prompt": "1 2", "max_tokens": 900, "ignore_eos": True},
    "/v1/responses": {"input": "1 2", "max_output_tokens": 900, "ignore_eos": True},
    "/v1/messages": {
        "messages": QUESTION,
        "max_tokens": 900,
        "output_config": {"format": {"type": "json_schema", "schema": LONG_LIST}},
    },
}


def ask(server: Server, path: str, stream: bool) -> httpx.Response:
    body = {"model": server.model, "stream": stream, **LONG[path]}
    return httpx.post(f"{server.url}{path}", json=body, timeout=300)


def running(server: Server) -> int:
    """Requests that the engine has begun."""
    text = httpx.get(f"{server.url}/metrics", timeout=300).text
    lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def begun(
    server: Server, clients: concurrent.futures.Executor
) -> dict[tuple[str, bool], "concurrent.futures.Future[httpx.Response]"]:
    """A request of each kind, streamed and not, all of them running in the engine."""
    asked = {
        (path, stream): clients.submit(ask, server, path, stream) for path in LONG for stream in (False, True)
    }
    end = time.monotonic() + 300
    while running(server) < len(asked):
        assert time.monotonic() < end
        assert not any(future.done() for future in asked.values())
    return asked


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_whoever_is_cut_off_can_tell(session_environment: dict[str, str], tmp_path: Path) -> None:
    """No time is given, so that all are cut off: an error event in a stream, else 503 with Retry-After."""
    words = ["--shutdown-timeout", "0"]
    with (
        serving(session_environment, tmp_path, *words) as server,
        concurrent.futures.ThreadPoolExecutor(2 * len(LONG)) as clients,
    ):
        asked = begun(server, clients)
        server.process.send_signal(signal.SIGTERM)
        answers = {each: future.result(300) for each, future in asked.items()}
        assert server.process.wait(300) == 0
    for (path, stream), answer in answers.items():
        if not stream:
            assert answer.status_code == 503, (path, answer.text)
            assert int(answer.headers["retry-after"]) > 0
            continue
        assert "abort" not in answer.text, path
        last = events(answer.text)[-1]
        assert "error" in last or last["type"] == "error", (path, last)
        assert "before its answer was complete" in json.dumps(last), path


def test_running_answers_end_and_new_ones_are_refused(
    session_environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        serving(session_environment, tmp_path, "--shutdown-timeout", "120") as server,
        concurrent.futures.ThreadPoolExecutor(2 * len(LONG)) as clients,
    ):
        asked = begun(server, clients)
        server.process.send_signal(signal.SIGTERM)
        refused = None
        while any(not future.done() for future in asked.values()):
            try:
                answer = ask(server, "/v1/completions", stream=False)
            except httpx.TransportError:
                break  # the last answer has ended, and with it the server
            if answer.status_code == 503:
                refused = answer
                break
        answers = {each: future.result(300) for each, future in asked.items()}
        assert server.process.wait(300) == 0
    assert refused is not None
    assert "stopping" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 0
    for each, answer in answers.items():
        assert answer.status_code == 200, each
        assert "complete" not in answer.text or '"error"' not in answer.text, each
        assert '"length"' in answer.text or '"max_tokens"' in answer.text or "incomplete" in answer.text, each
