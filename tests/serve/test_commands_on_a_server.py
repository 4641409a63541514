"""What `ps`, `status`, `logs` and `chat` make of a real server."""

import json
import os
import subprocess
import sys

import pytest
from serving import ANSWER, QUESTION, Server

from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine


def run(environment: dict[str, str], *words: str, typed: str = "") -> str:
    installed = os.environ.get("DGX_VLLM")
    program = [installed] if installed else [sys.executable, "-m", "dgx_vllm.cli"]
    done = subprocess.run(
        [*program, *words], env=environment, input=typed, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_server_is_listed_and_answers_status(server: Server, session_environment: dict[str, str]) -> None:
    listed = json.loads(run(session_environment, "ps", "--json"))
    (found,) = [each for each in listed if each["pid"] == server.process.pid]
    assert (found["state"], found["url"], found["model"]) == ("ready", server.url, "demo")
    (asked,) = json.loads(run(session_environment, "status", found["name"], "--json"))
    assert asked["health"]["healthy"] is True
    assert asked["health"]["running"] is not None
    assert run(session_environment, "logs", found["name"], "--lines", "5").count("\n") == 5
    words = ("chat", found["name"], "--temperature", "0", "--max-tokens", "40")
    assert run(session_environment, *words, typed=QUESTION[-1]["content"]).strip() == ANSWER
