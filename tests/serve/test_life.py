"""The real server's end: told to, and by the death of its engine."""

import os
import signal
from pathlib import Path

import pytest
from serving import serving

from helpers.processes import PATIENCE, alive

pytestmark = pytest.mark.engine


def test_a_dead_engine_ends_the_launcher_with_a_failure(
    session_environment: dict[str, str], tmp_path: Path
) -> None:
    """vllm#48966: vLLM may end with status 0, which no service manager restarts."""
    with serving(session_environment, tmp_path) as server:
        processes = server.descendants()
        # vLLM renames the process where the kernel lets it; else it still has multiprocessing's command line.
        engines = [
            pid for pid, command in processes.items() if "EngineCore" in command or "spawn_main" in command
        ]
        assert len(engines) == 1, processes
        os.kill(engines[0], signal.SIGKILL)
        assert server.process.wait(PATIENCE) != 0
        assert "the server ended by itself" in server.log.read_text(errors="replace")
        assert not [pid for pid in processes if alive(pid)]


def test_sigterm_ends_everything(session_environment: dict[str, str], tmp_path: Path) -> None:
    """By vLLM's own doing: the launcher kills after GRACE_SECONDS, or later where requests have more time."""
    with serving(session_environment, tmp_path, "--shutdown-timeout", "600") as server:
        processes = server.descendants()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        assert not [pid for pid in processes if alive(pid)]
