"""A server as a user starts it: `dgx-vllm serve`, until a block ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openai

from helpers.processes import PATIENCE

START_SECONDS = 1800
QUESTION = [{"role": "user", "content": "Count to ten."}]
ANSWER = "1 2 3 4 5 6 7 8 9 10"


@dataclass
class Server:
    """A launcher that is ready."""

    process: subprocess.Popen[bytes]
    url: str
    model: str
    log: Path

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)

    def descendants(self) -> dict[int, str]:
        """The processes below the launcher, by id, with their command lines."""
        found: dict[int, str] = {}
        todo = [self.process.pid]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(FileNotFoundError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    children = [int(child) for child in (task / "children").read_text().split()]
                    todo += children
                    for child in children:
                        command = Path(f"/proc/{child}/cmdline").read_bytes()
                        found[child] = command.replace(b"\0", b" ").decode().strip()
        return found


def answer(client: openai.OpenAI, model: str) -> str | None:
    """What the demo says to QUESTION: ANSWER, while all is well."""
    done = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=40)
    return done.choices[0].message.content


def start(
    environment: dict[str, str], log: Path, *words: str, wrapper: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Starts `dgx-vllm serve` on a free port, with all that it says in `log`; `wrapper` is what runs it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The command as it is installed, where there is one to test; else the working tree's.
    installed = os.environ.get("DGX_VLLM")
    program = [installed] if installed else [sys.executable, "-m", "dgx_vllm.cli"]
    command = [*wrapper, *program, "serve", "--port", str(port), *words]
    with log.open("wb") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def serving(
    environment: dict[str, str], directory: Path, *words: str, wrapper: Sequence[str] = ()
) -> Iterator[Server]:
    """Runs `dgx-vllm serve` until the block ends; a failure shows the end of its log."""
    ready, log = directory / "ready.json", directory / "log"
    process = start(environment, log, "--ready-file", str(ready), *words, wrapper=wrapper)
    try:
        end = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert process.poll() is None, f"ended with {process.returncode}:\n{_tail(log)}"
            assert time.monotonic() < end, f"not ready after {START_SECONDS} s:\n{_tail(log)}"
            time.sleep(0.2)
        address = json.loads(ready.read_text())
        yield Server(process, address["url"], address["model"], log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-60:])
