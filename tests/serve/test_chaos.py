"""The real server when things go wrong: what is promised is in docs/guides/service.md, row by row.

Each test starts from a healthy server of the demo model, breaks one thing, and looks at what clients and the
service manager see.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import pytest
from serving import ANSWER, QUESTION, Server, answer, serving, start

from helpers.processes import PATIENCE, alive, until

pytestmark = pytest.mark.engine

WATCHDOG_SECONDS = 20


def processes(server: Server) -> tuple[int, int]:
    """The API server's process and its engine's."""
    below = psutil.Process(server.process.pid).children(recursive=True)
    api = next(each for each in below if each.ppid() == server.process.pid)
    engine = next(
        each
        for each in api.children(recursive=True)
        if "EngineCore" in " ".join(each.cmdline()) or "spawn_main" in " ".join(each.cmdline())
    )
    return api.pid, engine.pid


def await_failure(server: Server) -> tuple[int, float, str]:
    """The launcher's status, the seconds until it ended, and what it said; nothing may be left running."""
    left = [each.pid for each in psutil.Process(server.process.pid).children(recursive=True)]
    began = time.monotonic()
    status = server.process.wait(PATIENCE)
    took = time.monotonic() - began
    assert not [pid for pid in left if alive(pid)]
    return status, took, server.log.read_text(errors="replace")


@pytest.mark.parametrize("victim", ["the API server", "the engine"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_process_ends_the_service(
    session_environment: dict[str, str], tmp_path: Path, victim: str, number: signal.Signals
) -> None:
    with serving(session_environment, tmp_path, "--watchdog", str(WATCHDOG_SECONDS)) as server:
        api, engine = processes(server)
        os.kill(api if victim == "the API server" else engine, number)
        status, took, log = await_failure(server)
    assert status != 0
    if number is signal.SIGSTOP:
        assert "the engine has not answered for" in log
        assert took > WATCHDOG_SECONDS / 2
    assert not (tmp_path / "ready.json").exists()


def test_a_killed_worker_ends_the_service(session_environment: dict[str, str], tmp_path: Path) -> None:
    """A worker has a process of its own where a model is spread over GPUs."""
    with serving(session_environment, tmp_path, "--distributed-executor-backend", "mp") as server:
        _, engine = processes(server)
        worker = next(
            each
            for each in psutil.Process(engine).children()
            if "resource_tracker" not in " ".join(each.cmdline())
        )
        worker.kill()
        status, _, _ = await_failure(server)
    assert status != 0


def small_disk(directory: Path, mebibytes: int) -> list[str]:
    """What runs a command so that a directory is a disk of that size."""
    directory.mkdir()
    program = Path(__file__).with_name("small_disk.py")
    return [sys.executable, str(program), str(directory), str(mebibytes)]


def test_a_full_disk_under_the_cache_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(environment, log, wrapper=small_disk(tmp_path / "cache", 16))
    assert process.wait(PATIENCE) == 1
    last = log.read_text(errors="replace").splitlines()[-1]
    assert last.startswith("dgx-vllm: the disk is too full: vLLM's cache needs ")
    assert "make room, or set VLLM_CACHE_ROOT to a larger disk" in last


def test_a_disk_that_fills_under_the_cache_stops_nobody(environment: dict[str, str], tmp_path: Path) -> None:
    disk = tmp_path / "cache"
    with serving(
        environment, tmp_path, "--shutdown-timeout", "600", wrapper=small_disk(disk, 1536)
    ) as server:
        seen = Path(f"/proc/{server.process.pid}/root") / disk.relative_to("/")
        with pytest.raises(OSError, match="No space left"):
            (seen / "filler").write_bytes(bytes(1536 << 20))
        assert answer(server.client, server.model) == ANSWER
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0


def test_a_corrupt_cache_is_made_anew(environment: dict[str, str], tmp_path: Path) -> None:
    """Every file that a first server left in its caches is overwritten before the second starts."""
    with serving(environment, tmp_path):
        pass
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left
    for path in left:
        path.write_bytes(b"\xff" * 64)
    (tmp_path / "second").mkdir()
    with serving(environment, tmp_path / "second") as server:
        assert answer(server.client, server.model) == ANSWER


@pytest.fixture(scope="module")
def idle(session_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> int:
    """MemAvailable in bytes beside a server that nobody asks anything."""
    directory = tmp_path_factory.mktemp("idle")
    with serving(session_environment, directory, "--memory-shed", "0", "--memory-floor", "0"):
        return psutil.virtual_memory().available


def test_low_memory_refuses_new_requests_and_comes_back(
    session_environment: dict[str, str], tmp_path: Path, idle: int
) -> None:
    """Memory is taken for real, until 4 GB less are available than where requests are refused."""
    with serving(session_environment, tmp_path, "--memory-shed", str(idle - 4 * 10**9)) as server:
        stream = server.client.chat.completions.create(
            model=server.model, messages=QUESTION, stream=True, max_tokens=40
        )
        first = next(stream)
        taken = np.ones(8 * 10**9, np.uint8)
        time.sleep(1)
        with pytest.raises(openai.APIStatusError) as refused:
            server.client.chat.completions.create(model=server.model, messages=QUESTION)
        assert refused.value.status_code == 503
        assert refused.value.response.headers["retry-after"] == "10"
        # What was under way goes on, and what watches the server sees it healthy.
        text = "".join(each.choices[0].delta.content or "" for each in [first, *stream] if each.choices)
        assert text == ANSWER
        assert httpx.get(f"{server.url}/health").status_code == 200
        del taken
        time.sleep(1)
        assert answer(server.client, server.model) == ANSWER


def test_the_last_memory_ends_the_server(
    session_environment: dict[str, str], tmp_path: Path, idle: int
) -> None:
    """As above, with the floor where requests are refused: the engine's memory is given back at once."""
    limit = str(idle - 4 * 10**9)
    with serving(session_environment, tmp_path, "--memory-shed", limit, "--memory-floor", limit) as server:
        taken = np.ones(8 * 10**9, np.uint8)
        status, _, log = await_failure(server)
        del taken
    assert status != 0
    assert "ended before the machine wedges" in log


def test_two_hundred_clients_at_once(server: Server) -> None:
    """All are answered, each as it would be alone."""

    async def ask() -> list[str | None]:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)

        async def one() -> str | None:
            done = await client.chat.completions.create(
                model=server.model, messages=QUESTION, temperature=0, max_tokens=40
            )
            return done.choices[0].message.content

        async with client:
            return list(await asyncio.gather(*(one() for _ in range(200))))

    assert set(asyncio.run(ask())) == {ANSWER}


def test_a_slow_loris_holds_nobody_up(server: Server) -> None:
    """Fifty clients send their request a byte a second; the fifty-first is answered as ever."""
    port = int(server.url.rsplit(":", 1)[1])
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
        for each in slow:
            each.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{")
        for _ in range(3):
            for each in slow:
                each.sendall(b" ")
            assert answer(server.client, server.model) == ANSWER
            time.sleep(1)


def test_clients_that_hang_up_leave_nothing_running(server: Server) -> None:
    """Twenty close their connection in the middle of a long stream; the engine drops their requests."""
    body = {
        "model": server.model,
        "messages": QUESTION,
        "stream": True,
        "max_tokens": 400,
        "ignore_eos": True,
    }
    for _ in range(20):
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE) as stream:
            next(stream.iter_raw())
    until(lambda: not running(server), "requests of clients that are gone still run")
    assert answer(server.client, server.model) == ANSWER


def running(server: Server) -> float:
    """Requests in the engine, by its own metrics."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", text, re.MULTILINE)
    assert len(found) == 2, found
    return sum(map(float, found))
