"""What only vLLM itself can find wrong, far down its log: the last words are still one clear line."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from serving import START_SECONDS, start

from dgx_vllm.demo import CHECKPOINT
from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine


def damaged(directory: Path, **settings: Any) -> Path:
    """The demo's checkpoint under a config.json that says something else."""
    path = directory / "checkpoint"
    shutil.copytree(CHECKPOINT, path)
    path.chmod(0o755)
    config = {**json.loads((path / "config.json").read_text()), **settings}
    (path / "config.json").unlink()
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": 256}, "Error: "),
        ({"architectures": ["NoSuchForCausalLM"], "model_type": "no_such"}, "model type `no_such`"),
    ],
    ids=["shapes", "architecture"],
)
def test_a_checkpoint_that_contradicts_itself(
    session_environment: dict[str, str], tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    log = tmp_path / "log"
    checkpoint = damaged(tmp_path, **settings)
    process = start(session_environment, log, "--profile", "demo", str(checkpoint))
    try:
        assert process.wait(START_SECONDS) == 1, log.read_text()
    finally:
        process.kill()
    last = log.read_text(errors="replace").splitlines()[-1]
    assert last.startswith("dgx-vllm: the server ended by itself with status 1: ")
    assert said in last
    assert last.endswith("; its log above says more")


def test_ctrl_c_in_mid_start(session_environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(session_environment, log, "--shutdown-timeout", "600")
    try:
        end = time.monotonic() + START_SECONDS
        while "INFO" not in log.read_text(errors="replace"):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
    last = log.read_text(errors="replace").splitlines()[-1]
    assert last == "dgx-vllm: stopped before the server was ready"
