"""The middleware by itself: what passes, what is refused, and what a heartbeat says."""

import asyncio
import json
from typing import Any

import pytest
from asking import ask, behind
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from dgx_vllm.admission import heartbeat
from dgx_vllm.admission.middleware import RETRY_SECONDS, Admission
from dgx_vllm.admission.names import HEARTBEAT, SERVER, SERVER_HEADER, SHED


@pytest.fixture
def shed(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv(SHED, "1000")
    return 1000


class Engine:
    """An engine client that answers, is silent, or is dead."""

    def __init__(self, seconds: float = 0, error: Exception | None = None) -> None:
        self._seconds, self._error = seconds, error

    async def is_sleeping(self) -> bool:
        await asyncio.sleep(self._seconds)
        if self._error:
            raise self._error
        return False


def test_low_memory_refuses_new_work_alone(shed: int) -> None:
    low = Admission(behind, available=lambda: shed - 1)
    start, body = ask(low, "POST", "/v1/chat/completions")
    assert start["status"] == 503
    assert (b"retry-after", str(RETRY_SECONDS).encode()) in start["headers"]
    error = json.loads(body["body"])["error"]
    assert (error["code"], error["type"]) == (503, "ServiceUnavailableError")
    # What watches the server must not take it for dead, and what streams is not cut off.
    for method, path in (("GET", "/health"), ("GET", "/metrics"), ("GET", "/v1/models")):
        assert ask(low, method, path) == ["reached"]
    assert ask(low, "GET", "/v1/realtime", kind="websocket") == ["reached"]
    assert ask(low, "", "", kind="lifespan") == ["reached"]


FREES = [
    "/sleep",
    "/pause",
    "/resume",
    "/release_kv_cache_memory",
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/reset_encoder_cache",
    "/abort_requests",
    "/inference/v1/abort_requests",
    "/ping",
    "/v1/unload_lora_adapter",
    "/v1/responses/{response_id}/cancel",
]


@pytest.mark.parametrize("path", FREES)
@pytest.mark.parametrize("root", ["", "/api"])
def test_what_frees_memory_passes(shed: int, path: str, root: str) -> None:
    low = Admission(behind, available=lambda: shed - 1)
    assert ask(low, "POST", f"{root}{path}", root=root) == ["reached"]


@pytest.mark.parametrize(
    "path",
    [
        "/wake_up",
        "/v1/load_lora_adapter",
        "/v1/responses",
        "/v1/responses/a/b/cancel",
        "/v1/responses//cancel",
        "/v1/chat/completions/sleep",
        "/sleep/",
        "/sleep\n",
        "/sleepless",
        "/unknown",
    ],
)
def test_every_other_request_is_new_work(shed: int, path: str) -> None:
    assert ask(Admission(behind, available=lambda: shed - 1), "POST", path)[0]["status"] == 503


def test_vllm_has_what_frees_memory() -> None:
    """A path that a newer vLLM calls otherwise would be refused when it is needed most."""
    from dgx_vllm.host.machine import detect

    routers = (detect().vllm.package / "entrypoints").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in routers)
    assert [path for path in FREES if f'"{path}"' not in text] == []


def test_enough_memory_lets_everything_through(shed: int) -> None:
    assert ask(Admission(behind, available=lambda: shed), "POST", "/v1/completions") == ["reached"]


def test_without_a_limit_memory_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHED, raising=False)

    def asked() -> int:
        raise AssertionError("asked")

    assert ask(Admission(behind, available=asked), "POST", "/v1/completions") == ["reached"]


@given(steps=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2000)), max_size=30))
def test_what_counts_is_a_sample_of_the_last_quarter_second(steps: list[tuple[float, int]]) -> None:
    """Each step is the time since the last request and what is available then."""
    now, memory, asked = 0.0, 0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SHED, "1000")

        def available() -> int:
            asked.append((now, memory))
            return memory

        admission = Admission(behind, available, clock=lambda: now)
        for seconds, amount in steps:
            now, memory = now + seconds, amount
            refused = ask(admission, "POST", "/v1/completions") != ["reached"]
            when, sample = asked[-1]
            assert now - when < 0.25
            assert refused == (sample < 1000)


def test_a_heartbeat_is_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.05)
    admission = Admission(behind)
    statuses = {
        "answers": Engine(),
        "silent": Engine(seconds=5),
        "dead": Engine(error=RuntimeError("EngineCore died, prompt: private")),
        "none": None,
    }
    answers = {name: ask(admission, "GET", HEARTBEAT, engine) for name, engine in statuses.items()}
    assert {name: start["status"] for name, (start, _) in answers.items()} == {
        "answers": 200,
        "silent": 504,
        "dead": 503,
        "none": 200,
    }
    assert b"private" not in answers["dead"][1]["body"]


# --- whose server answers


@pytest.mark.parametrize("path", ["/health", HEARTBEAT])
@pytest.mark.parametrize("root", ["", "/api"])
def test_a_server_says_whose_it_is(monkeypatch: pytest.MonkeyPatch, path: str, root: str) -> None:
    async def answering(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"ok"})

    monkeypatch.setenv(SERVER, "its-own-word")
    asked = path if path == HEARTBEAT else f"{root}{path}"
    start, _ = ask(Admission(answering), "GET", asked, Engine(), root=root)
    assert start["status"] == 200
    assert (SERVER_HEADER.encode(), b"its-own-word") in start["headers"]
    assert path == HEARTBEAT or (b"a", b"b") in start["headers"]


def test_only_probes_learn_whose_server_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER, "its-own-word")
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions"), ("GET", "/healthy")):
        assert ask(Admission(behind), method, path) == ["reached"]


# --- what a refused client reads


def test_a_shed_request_is_counted(shed: int) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("dgx_vllm_requests_shed_total") or 0.0

    before = count()
    low = Admission(behind, available=lambda: shed - 1)
    ask(low, "POST", "/v1/completions")
    ask(low, "GET", "/health")
    assert count() == before + 1


@pytest.mark.parametrize(
    ("origins", "allowed"), [(["*"], "*"), (["https://a.example"], "https://a.example"), ([], None)]
)
def test_a_browser_may_read_a_refusal_where_the_origin_is_allowed(
    shed: int, origins: list[str], allowed: str | None
) -> None:
    low = Admission(behind, available=lambda: shed - 1)
    asked = {"origin": "https://a.example"}
    start, _ = ask(low, "POST", "/v1/completions", headers=asked, allowed_origins=origins)
    assert start["status"] == 503
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    assert answered.get("access-control-allow-origin") == allowed


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_anthropics_clients_get_anthropics_error(shed: int, path: str) -> None:
    _, body = ask(Admission(behind, available=lambda: shed - 1), "POST", path)
    answered = json.loads(body["body"])
    assert answered["type"] == "error"
    assert answered["error"]["type"] == "overloaded_error"
    assert "low on memory" in answered["error"]["message"]


@pytest.mark.parametrize("path", ["/health", "/ping"])
def test_a_probe_by_head_is_answered_as_one_by_get(path: str) -> None:
    """vLLM's own routes answer 405, and `curl -I` takes the server for a broken one."""
    seen: list[tuple[str, str]] = []

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], scope["path"]))

    ask(Admission(recorded), "HEAD", path)
    ask(Admission(recorded), "HEAD", "/v1/models")
    assert seen == [("GET", path), ("HEAD", "/v1/models")]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics/a"])
def test_a_websocket_at_the_metrics_is_refused(path: str) -> None:
    """The app that is mounted there fails at one: 500 and a traceback."""
    assert ask(Admission(behind), "GET", path, kind="websocket")[0]["type"] == "websocket.close"
    assert ask(Admission(behind), "GET", "/v1/realtime", kind="websocket") == ["reached"]
