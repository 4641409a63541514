"""A server with a key: every route asks for it, but for those that the documents list as open."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from serving import ANSWER, QUESTION, Server, serving

from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

KEY = "sk-not-for-anybodys-eyes"
#: As the table in docs/guides/service.md has them.
OPEN = {("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def locked(session_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key in a file, and with the routes that only a server for development has."""
    directory = tmp_path_factory.mktemp("locked")
    file = directory / "key"
    file.write_text(f"{KEY}\n")
    environment = {**session_environment, "VLLM_SERVER_DEV_MODE": "1"}
    words = ["--api-key-file", str(file), "--allowed-origins", '["https://a.example"]']
    with serving(environment, directory, *words) as running:
        yield running


def routes(server: Server) -> set[tuple[str, str]]:
    """Method and path of all that the server has, by its own list at the start; a websocket's is GET."""
    log = server.log.read_text(errors="replace")
    found = {
        (method.strip(), path)
        for path, methods in re.findall(r"Route: (\S+), Methods: (.+)", log)
        for method in methods.split(",")
    }
    return found | {("GET", path) for path in re.findall(r"Route: (\S+), Endpoint: ", log)}


def test_every_route_asks_for_the_key(locked: Server) -> None:
    known = routes(locked)
    assert {
        ("POST", "/v1/chat/completions"),
        ("POST", "/sleep"),
        ("GET", "/docs"),
        ("POST", "/tokenize"),
    } <= known
    with httpx.Client(base_url=locked.url, timeout=PATIENCE) as client:
        described = client.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()["paths"]
        known |= {(method.upper(), path) for path, methods in described.items() for method in methods}
        answers = {}
        for path in {path for _, path in known}:
            for method in METHODS:
                address = re.sub(r"\{[^}]*\}", "none", path)
                answer = client.request(method, address, json=None if method in ("GET", "HEAD") else {})
                answers[method, path] = answer.status_code
    assert len(answers) > 200
    reached = {each for each, status in answers.items() if status != 401}
    assert reached >= OPEN
    assert reached <= OPEN | {("HEAD", "/health"), ("HEAD", "/ping")}


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/v1/models/",
            "//v1/models",
            "/v1//models",
            "/%76%31/models",
            "/v1/%6dodels",
            "/health/../v1/models",
        ),
        *(
            "/metrics/",
            "/metricsx",
            "/%6detrics",
            "/./metrics",
            "/METRICS",
            "/health/",
            "/health%2f..%2fmetrics",
        ),
        *("http://other.example/metrics", "/metrics?health", "/metrics;/health", "/health%00/metrics", "*"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_spelling_of_a_path_slips_past(locked: Server, method: str, target: str) -> None:
    """As it is sent, without a client that tidies it up."""
    url = httpx.URL(locked.url)
    with socket.create_connection((url.host, url.port or 80), timeout=PATIENCE) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split()[1])
    assert status in (400, 401), answer[:300]
    assert b"python_info" not in answer


def test_a_websocket_asks_for_the_key(locked: Server) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    answer = httpx.get(f"{locked.url}/v1/realtime", headers=upgrade, timeout=PATIENCE)
    assert answer.status_code == 401


def test_clients_with_the_key_are_served(locked: Server) -> None:
    """OpenAI's client sends a Bearer, Anthropic's an x-api-key."""
    chat = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=KEY, max_retries=0, timeout=120)
    done = chat.chat.completions.create(model=locked.model, messages=QUESTION, temperature=0, max_tokens=40)
    assert done.choices[0].message.content == ANSWER
    messages = anthropic.Anthropic(base_url=locked.url, api_key=KEY, max_retries=0, timeout=120)
    said = messages.messages.create(model=locked.model, messages=QUESTION, max_tokens=40)
    assert said.content[0].text
    wrong = anthropic.Anthropic(base_url=locked.url, api_key="sk-wrong", max_retries=0, timeout=120)
    with pytest.raises(anthropic.AuthenticationError, match="API key"):
        wrong.messages.create(model=locked.model, messages=QUESTION, max_tokens=40)


def test_a_browser_may_ask_and_may_read_a_refusal(locked: Server) -> None:
    origin = {"Origin": "https://a.example"}
    address = f"{locked.url}/v1/chat/completions"
    asked = httpx.options(
        address, headers={**origin, "Access-Control-Request-Method": "POST"}, timeout=PATIENCE
    )
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, origin["Origin"])
    refused = httpx.post(address, headers=origin, json={}, timeout=PATIENCE)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["Origin"])
    other = httpx.post(address, headers={"Origin": "https://b.example"}, json={}, timeout=PATIENCE)
    assert "access-control-allow-origin" not in other.headers


def test_metrics_count_refusals(locked: Server) -> None:
    httpx.get(f"{locked.url}/metrics", timeout=PATIENCE)
    text = httpx.get(
        f"{locked.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE
    ).text
    counted = re.search(r"^dgx_vllm_requests_unauthorized_total (\S+)$", text, re.MULTILINE)
    assert counted
    assert float(counted[1]) >= 1
    assert "dgx_vllm_requests_shed_total 0.0" in text


def test_the_log_has_no_key(locked: Server) -> None:
    httpx.get(f"{locked.url}/v1/models", headers={"Authorization": "Bearer sk-wrong"}, timeout=PATIENCE)
    log = locked.log.read_text(errors="replace")
    assert KEY not in log
    assert "sk-wrong" not in log


def test_open_metrics_need_no_key(session_environment: dict[str, str], tmp_path: Path) -> None:
    environment = {**session_environment, "VLLM_API_KEY": KEY}
    with serving(environment, tmp_path, "--open-metrics", "--root-path", "/api") as server:
        for path in ("/metrics", "/api/metrics"):
            assert "vllm:" in httpx.get(f"{server.url}{path}", timeout=PATIENCE).text
        for path in ("/v1/models", "/api/v1/models", "/api/tokenize", "/apimetrics", "/metricsx", "/load"):
            assert httpx.get(f"{server.url}{path}", timeout=PATIENCE).status_code == 401
        body = {"model": server.model, "messages": QUESTION, "max_tokens": 1}
        answer = httpx.post(
            f"{server.url}/api/v1/chat/completions", headers={"x-api-key": KEY}, json=body, timeout=PATIENCE
        )
        assert json.loads(answer.text)["choices"]
