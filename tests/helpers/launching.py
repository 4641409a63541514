"""What the launcher's tests share: how a run ended, a server that runs, and files made by hand."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.processes import PATIENCE, until

FAKE = Path(__file__).parent / "fake_vllm"
"""A stand-in for the vLLM package."""

COMMAND = [sys.executable, "-m", "dgx_vllm.cli"]
#: The config of a Llama with 8B parameters.
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}


def write_safetensors(path: Path, tensors: Mapping[str, int]) -> None:
    """A safetensors file of byte tensors of the given sizes, by the format's definition."""
    header: dict[str, Any] = {}
    end = 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + end)  # a hole: it reads as zeros and takes no room on the disk


@dataclass
class Outcome:
    """How the command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@dataclass
class Running:
    """A launcher with a fake vLLM below it."""

    process: subprocess.Popen[str]
    record: Path
    ready_file: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def recorded(self, name: str) -> Any:
        return json.loads((self.record / name).read_text())

    def await_file(self, path: Path) -> None:
        def there() -> bool:
            assert path.exists() or self.process.poll() is None, self.process.communicate()
            return path.exists()

        until(there, f"{path.name} did not appear")

    def await_ready(self) -> None:
        self.await_file(self.ready_file)

    def end(self, number: signal.Signals | None = None) -> Outcome:
        """Sends the signal, if any, and waits for the launcher to end."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return Outcome(self.process.returncode, out, err)


Start = Callable[..., Running]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def complete(words: Sequence[str], environ: Mapping[str, str]) -> Outcome:
    """The command in a process of its own, to its end."""
    done = subprocess.run(
        [*COMMAND, *words], env=dict(environ), capture_output=True, text=True, timeout=PATIENCE
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
