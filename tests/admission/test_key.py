"""The key: what it opens, what is open without it, and what does not slip past it."""

import json
from typing import Any

import pytest
from asking import ask, behind
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from dgx_vllm.admission.middleware import Admission
from dgx_vllm.admission.names import HEARTBEAT, OPEN_METRICS

KEY, OTHER = "sk-one 1", "sk-two"
OPEN = {("GET", "/health"), ("HEAD", "/health"), ("GET", "/ping"), ("HEAD", "/ping"), ("POST", "/ping")}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
PATHS = [
    *(
        "/",
        "",
        "*",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/messages",
        "/inference/v1/generate",
        "/v2/chat",
    ),
    *("/invocations", "/tokenize", "/detokenize", "/load", "/version", "/metrics", "/metrics/", "/metricsx"),
    *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/static/swagger-ui.css", "/server_info"),
    *("/sleep", "/wake_up", "/collective_rpc", "/scale_elastic_ep", "/start_profile", HEARTBEAT),
    # One path is not another: what is open is open as it is written.
    *(
        "/health/",
        "//health",
        "/health/../v1/models",
        "/HEALTH",
        "/health%2f",
        "/health;a",
        "/healthx",
        "/ping/",
    ),
    *("/v1/health", "/health\n", " /health", "/./health", "\\health", "/health?x", "/ping\x00"),
]


def asked(method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> list[Any]:
    more.setdefault("api_key", [OTHER, KEY])
    return ask(Admission(behind), method, path, headers=headers, **more)


def refused(answer: list[Any]) -> bool:
    return answer != ["reached"] and answer[0]["status"] == 401


@pytest.mark.parametrize("path", sorted({*PATHS, "/health", "/ping"}))
@pytest.mark.parametrize("method", METHODS)
def test_without_the_key_nothing_is_reached_but_what_probes_ask(method: str, path: str) -> None:
    answer = asked(method, path)
    assert refused(answer) == ((method, path) not in OPEN)


@given(
    method=st.sampled_from(METHODS),
    path=st.text(max_size=30),
    root=st.sampled_from(["", "/api", "/health", "/"]),
)
def test_without_the_key_no_path_is_reached(method: str, path: str, root: str) -> None:
    if (method, path) not in OPEN and (method, path.removeprefix(root)) not in OPEN:
        assert refused(asked(method, path, root=root))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {OTHER}"},
        {"x-api-key": KEY},
        {"x-api-key": OTHER, "authorization": "Bearer wrong"},
    ],
    ids=["bearer", "lower-case", "x-api-key", "both"],
)
def test_with_a_key_everything_is_reached(path: str, headers: dict[str, str]) -> None:
    assert asked("POST", path if path != HEARTBEAT else "/v1/models", headers) == ["reached"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": f"Bearer  {KEY}"},
        {"authorization": f"Bearer {KEY} "},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": "Bearer sch\u00fcssel"},
        {"x-api-key": ""},
        {"x-api-key": f"Bearer {KEY}"},
        {"cookie": KEY},
    ],
    ids=str,
)
def test_what_is_no_key_opens_nothing(headers: dict[str, str]) -> None:
    assert refused(asked("POST", "/v1/completions", headers))


@given(key=st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20))
def test_only_a_key_opens(key: str) -> None:
    for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert refused(asked("GET", "/v1/models", headers)) == (key not in (KEY, OTHER))


def test_vllms_own_check_sees_a_key_of_anthropics_header() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append([pair for pair in scope["headers"] if pair[0] == b"authorization"])

    headers = {"authorization": "Bearer wrong", "x-api-key": KEY}
    ask(Admission(inner), "POST", "/v1/messages", headers=headers, api_key=[KEY])
    assert seen == [[(b"authorization", f"Bearer {KEY}".encode())]]


@pytest.mark.parametrize("keys", [None, [], [""]])
def test_without_a_key_set_everything_is_open(
    monkeypatch: pytest.MonkeyPatch, keys: list[str] | None
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert asked("POST", "/v1/completions", api_key=keys) == ["reached"]


def test_the_key_may_come_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-of-the-environment")
    headers = {"authorization": "Bearer sk-of-the-environment"}
    assert refused(asked("GET", "/tokenize", api_key=None))
    assert asked("GET", "/tokenize", headers, api_key=None) == ["reached"]
    # Another key, as a flag, counts in its place; an empty one opens the server.
    assert refused(asked("GET", "/tokenize", headers))
    assert asked("GET", "/tokenize", api_key=[""]) == ["reached"]


@pytest.mark.parametrize("value", ["1", "0", "", None])
def test_metrics_are_open_by_their_option_alone(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(OPEN_METRICS, raising=False)
    else:
        monkeypatch.setenv(OPEN_METRICS, value)
    assert refused(asked("GET", "/metrics")) == (value != "1")
    for method, path in (
        ("POST", "/metrics"),
        ("OPTIONS", "/metrics"),
        ("GET", "/metrics/"),
        ("GET", "/load"),
    ):
        assert refused(asked(method, path))


def test_a_browsers_preflight_passes_and_no_other_options_does() -> None:
    preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
    assert asked("OPTIONS", "/v1/chat/completions", preflight) == ["reached"]
    for name in preflight:
        assert refused(
            asked("OPTIONS", "/metrics", {key: preflight[key] for key in preflight if key != name})
        )
    # The same words with another method are a request.
    assert refused(asked("POST", "/v1/chat/completions", preflight))


def test_a_path_below_the_root_path_is_what_it_is_without() -> None:
    root = "/api"
    assert asked("GET", "/api/health", root=root) == ["reached"]
    assert asked("GET", "/health", root=root) == ["reached"]
    for path in ("/apihealth", "/api/v1/models", "/api/api/health", "/api", "/api/tokenize"):
        assert refused(asked("GET", path, root=root))


def test_a_websocket_without_the_key_is_closed_before_it_opens() -> None:
    (closed,) = asked("", "/v1/realtime", kind="websocket")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    (closed,) = asked("", "/health", kind="websocket")
    assert closed["type"] == "websocket.close"
    assert asked("", "/v1/realtime", {"authorization": f"Bearer {KEY}"}, kind="websocket") == ["reached"]


def test_a_refusal_says_how_to_give_the_key_and_shows_none(caplog: pytest.LogCaptureFixture) -> None:
    start, body = asked("POST", "/v1/completions", {"authorization": "Bearer sk-wrong"})
    error = json.loads(body["body"])["error"]
    assert (error["code"], error["type"]) == (401, "AuthenticationError")
    assert "Authorization: Bearer KEY" in error["message"]
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    said = str(start) + str(body) + caplog.text
    assert not any(key in said for key in (KEY, OTHER, "sk-wrong"))
    _, body = asked("POST", "/v1/messages")
    assert json.loads(body["body"])["error"]["type"] == "authentication_error"


def test_refusals_for_want_of_a_key_are_counted() -> None:
    before = REGISTRY.get_sample_value("dgx_vllm_requests_unauthorized_total") or 0.0
    asked("POST", "/v1/completions")
    assert REGISTRY.get_sample_value("dgx_vllm_requests_unauthorized_total") == before + 1


def test_a_heartbeat_asks_for_the_key_too() -> None:
    assert refused(asked("GET", HEARTBEAT))
    start, _ = asked("GET", HEARTBEAT, {"authorization": f"Bearer {KEY}"})
    assert start["status"] == 200
