"""When a server counts as ready: by a token; by /health alone, where a healthy server makes none."""

import itertools
import json
import signal
from pathlib import Path

import pytest

from helpers.launching import Running, Start


def asked(server: Running) -> list[tuple[float, str]]:
    """When each completion was asked for, and of which path."""
    found = [json.loads(path.read_text()) for path in server.record.glob("asked*.json")]
    return sorted((when, path) for when, path in found)


BROKEN = [500, {}]


def test_a_server_without_a_tokenizer_is_ready_by_token_ids(start: Start) -> None:
    """vLLM answers 500 to a text then."""
    broken = {"/v1/chat/completions": BROKEN, "/v1/completions": BROKEN}
    server = start(fails=broken)
    server.await_ready()
    outcome = server.end(signal.SIGTERM)
    assert "first token in" in outcome.out
    assert '"prompt": [1]' in outcome.out
    assert '"detokenize": false' in outcome.out


def test_a_server_that_is_told_to_have_no_tokenizer_is_asked_by_token_ids_alone(start: Start) -> None:
    """Each text would be a traceback in its log."""
    server = start("--skip-tokenizer-init")
    server.await_ready()
    assert [path for _, path in asked(server)] == ["/v1/completions"]


def test_a_probe_that_fails_slows_down_and_gives_up(start: Start) -> None:
    """On the old tree four tracebacks a second for ever."""
    server = start(fails={"/v1/chat/completions": BROKEN, "/v1/completions": BROKEN, "ids": BROKEN})
    server.await_ready()
    times = [when for when, path in asked(server) if path == "/v1/chat/completions"]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == 8
    least = [0.5, 1, 2, 4, 8, 10, 10]
    assert all(pause >= wanted for pause, wanted in zip(pauses, least, strict=True)), pauses
    assert json.loads(server.ready_file.read_text())["model"] == "fake"
    outcome = server.end(signal.SIGTERM)
    assert outcome.status == 0
    said = "no token was generated (healthy, but without a token: /v1/chat/completions answers 500: as it was"
    assert said in outcome.out
    assert "ready only means that /health answers" in outcome.out


def test_a_probe_that_works_again_makes_a_token_count(start: Start) -> None:
    every = {"/v1/chat/completions": BROKEN, "/v1/completions": BROKEN, "ids": BROKEN}
    server = start(fails=every, fails_until=7)
    server.await_ready()
    assert "first token in" in server.end(signal.SIGTERM).out


def test_a_server_whose_machine_is_low_on_memory_says_so_and_is_not_given_up(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middleware sheds, with 503 and Retry-After. It is waited for, at the distance that it names."""
    low = [503, {"Retry-After": "1"}]
    every = {"/v1/chat/completions": low, "/v1/completions": low, "ids": low}
    monkeypatch.chdir(tmp_path)
    server = start(fails=every, fails_until=17)
    server.await_ready()
    times = [when for when, _ in asked(server)]
    assert len(times) == 18
    assert min(after - before for before, after in itertools.pairwise(times)) >= 1
    outcome = server.end(signal.SIGTERM)
    assert "s: /v1/chat/completions answers 503: as it was told" in outcome.err
    assert "first token in" in outcome.out
