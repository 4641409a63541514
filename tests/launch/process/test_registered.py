"""A running server makes itself known."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from dgx_vllm.demo.paths import CHECKPOINT
from dgx_vllm.launch.endpoint import Endpoint, Ready
from dgx_vllm.launch.process import registry
from dgx_vllm.launch.process.progress import Progress
from helpers.launching import Start


def test_a_server_is_in_the_registry_while_it_runs(
    start: Start, fake_environment: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    running = start("--api-key-file", str(key), "--tokenizer", "org/tokens", key="secret")
    running.await_ready()
    (found,) = registry.entries(fake_environment)
    assert found.pid == running.process.pid
    assert found.url == running.url
    assert (found.model, found.served) == (str(checkpoint), "fake")
    assert found.uses == (str(checkpoint), "org/tokens")
    assert (found.key_file, found.has_key) == (str(key), True)
    assert found.server is not None
    assert found.ready is not None
    assert found.ready - found.started >= 0
    assert running.end(signal.SIGTERM).status == 0
    assert registry.entries(fake_environment) == []


def test_a_draft_model_and_adapters_are_in_use(
    start: Start, fake_environment: dict[str, str], tmp_path: Path
) -> None:
    draft = tmp_path / "draft"
    shutil.copytree(CHECKPOINT, draft)
    speculation = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": 2}
    running = start(
        *("--speculative-config", json.dumps(speculation)),
        *("--enable-lora", "--lora-modules", "a=org/adapter", '{"name": "b", "path": "/srv/adapter"}'),
    )
    running.await_ready()
    (found,) = registry.entries(fake_environment)
    assert {str(draft), "org/adapter", "/srv/adapter"} <= set(found.uses)


@pytest.mark.parametrize(
    ("terminal", "path", "said"), [(True, "chat/", True), (True, "", False), (False, "chat/", False)]
)
def test_a_terminal_is_told_of_the_chat(
    capfd: pytest.CaptureFixture[str], terminal: bool, path: str, said: bool
) -> None:
    progress = Progress()
    progress._terminal = terminal
    url = "http://127.0.0.1:8888"
    progress.ready(Ready(Endpoint(url), "model", 0.1, f"curl {url}/v1/{path}completions"), 3)
    progress.finish()
    assert ("dgx-vllm chat" in capfd.readouterr().out) == said
