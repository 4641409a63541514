"""The ready file and who reads it: `health` asks the server where it listens, and nothing else ends badly."""

import json
import os
import signal
from pathlib import Path

import pytest

from dgx_vllm.launch.process.notify import Notifier
from helpers.launching import Run, Start, complete
from helpers.processes import await_end


def test_a_server_behind_a_socket_is_asked_from_anywhere(
    start: Start, fake_environment: dict[str, str], tmp_path: Path
) -> None:
    # A socket's path may have 107 characters; pytest's directories may take more than that.
    server = start("--uds", os.path.relpath(tmp_path / "s", tmp_path))
    server.await_ready()
    told = json.loads(server.ready_file.read_text())
    assert told["socket"] == str(tmp_path / "s")
    if len(told["socket"]) < 108:
        outcome = complete(["health", "--ready-file", str(server.ready_file)], fake_environment)
        assert (outcome.status, outcome.out) == (0, f"{told['socket']} is healthy\n"), outcome
    server.end(signal.SIGTERM)


@pytest.mark.parametrize(
    "told", [{"url": 5}, {"url": "http://x", "socket": 5}, {"url": "http://[::"}, {"url": "x"}]
)
def test_an_address_that_is_none(dgx_vllm: Run, tmp_path: Path, told: dict[str, object]) -> None:
    path = tmp_path / "ready"
    path.write_text(json.dumps(told))
    outcome = dgx_vllm("health", "--ready-file", str(path))
    assert outcome.status == 1
    assert len(outcome.err.splitlines()) == 1


def test_a_ready_file_that_cannot_be_removed_changes_no_end(start: Start) -> None:
    server = start(child=True)
    server.await_ready()
    server.ready_file.unlink()
    server.ready_file.mkdir()  # which unlink refuses
    outcome = server.end(signal.SIGTERM)
    assert (outcome.status, "Traceback" in outcome.err) == (0, False), outcome
    await_end(server.recorded("child.json"))


def test_stopping_outlives_the_ready_file(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    notifier = Notifier({}, path)
    path.mkdir()
    notifier.stopping()
