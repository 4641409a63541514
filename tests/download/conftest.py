"""A hub that fails on demand, and the command against it: in this process without waits, or in its own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from downloading import Cache, Outcome, Run, Start

from dgx_vllm import cli
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.download import command
from dgx_vllm.util.errors import UserError
from helpers.fakehub import MODEL, TOKEN, Hub, serving

CONFIG = b'{"model_type": "qwen2"}'


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A repository with 300 kB of weights."""
    header = b'{"weight":{"dtype":"U8","shape":[299936],"data_offsets":[0,299936]}}'.ljust(72)
    weights = bytes(value % 251 for value in range(299936))
    served = Hub(
        {
            "config.json": CONFIG,
            "model.safetensors": len(header).to_bytes(8, "little") + header + weights,
            "deep/notes.txt": b"notes",
        }
    )
    with serving(served) as url:
        served.url = url
        yield served
        served.released.set()


@pytest.fixture
def mirror(hub: Hub) -> Iterator[Hub]:
    """The same, with weights on another host, to which signed addresses lead."""
    with serving(hub) as url:
        hub.mirror = url
        yield hub


@pytest.fixture
def cache(hub: Hub, tmp_path: Path) -> Cache:
    return Cache(hub, tmp_path / "cache" / "huggingface" / "hub")


@pytest.fixture
def download(
    hub: Hub, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command in this process; waits are noted instead of waited for."""
    from huggingface_hub import constants

    # huggingface_hub read the environment when the first test imported it.
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run(
        model: str = MODEL,
        revision: str | None = None,
        if_missing: bool = False,
        clock: Callable[[], float] = time.monotonic,
        reading: Reading = AUTO,
        speculative_config: str | None = None,
    ) -> Outcome:
        slept: list[float] = []
        environ = {**environment, "HF_ENDPOINT": hub.url}
        status = 0
        said = ""
        try:
            command.download(
                model,
                environ,
                revision,
                if_missing,
                sleep=slept.append,
                clock=clock,
                reading=reading,
                speculative_config=speculative_config,
            )
        except UserError as error:
            status, said = error.status, f"dgx-vllm: {error}\n"
        captured = capsys.readouterr()
        outcome = Outcome(status, captured.out, captured.err + said, slept)
        assert TOKEN not in outcome.out + outcome.err
        return outcome

    return run


@pytest.fixture
def start(hub: Hub, environment: dict[str, str]) -> Iterator[Start]:
    """The command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, **variables: str) -> subprocess.Popen[str]:
        environ = {**environment, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, **variables}
        command = [sys.executable, "-m", cli.__name__, "download", *(words or (MODEL,))]
        started.append(
            subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
