"""What vLLM would find out late: memory that has no query, room for sockets, and the number of open files."""

import resource
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.host.machine import Machine, detect
from dgx_vllm.launch.checks import descriptors, sockets
from dgx_vllm.util.errors import UserError
from helpers.launching import COMMAND, Run, free_port

SERVE = ("serve", "org/model", "--dry-run")


@pytest.mark.parametrize("value", ["1", " 1", "2"])
def test_a_startup_plan_is_refused_where_memory_is_shared(
    dgx_vllm: Run, spark: Machine, laptop: Machine, value: str
) -> None:
    environ = {"VLLM_ENABLE_STARTUP_PLAN": value}
    outcome = dgx_vllm(*SERVE, on=spark, environ=environ)
    assert outcome.status == 2
    assert "VLLM_ENABLE_STARTUP_PLAN" in outcome.err
    assert "unset it" in outcome.err
    assert dgx_vllm(*SERVE, on=laptop, environ=environ).status == 0
    assert dgx_vllm(*SERVE, on=spark, environ={"VLLM_ENABLE_STARTUP_PLAN": "0"}).status == 0


def test_a_startup_plan_in_a_services_file(dgx_vllm: Run, spark: Machine, tmp_path: Path) -> None:
    path = tmp_path / "e.env"
    path.write_text("VLLM_ENABLE_STARTUP_PLAN=1\n")
    words = ["install-service", "org/model", "--environment-file", str(path), "--dry-run"]
    assert "VLLM_ENABLE_STARTUP_PLAN" in dgx_vllm(*words, on=spark).err


def test_vllm_asks_nvml_for_the_memory_that_a_startup_plan_is_filed_by() -> None:
    """Once it does not, the refusal is of no use. The CPU build cannot import its module for CUDA."""
    package = detect().vllm.package
    plan = (package / "v1/worker/startup_plan.py").read_text()
    _, _, fingerprint = plan.partition("def compute_plan_fingerprint")
    assert "get_device_total_memory()" in fingerprint.partition("\ndef ")[0]
    _, _, nvml = (package / "platforms/cuda.py").read_text().partition("class NvmlCudaPlatform")
    _, _, method = nvml.partition("def get_device_total_memory")
    assert "nvmlDeviceGetMemoryInfo" in method.partition("def ")[0]


def test_sleep_mode_comes_with_a_warning_where_memory_is_shared(
    dgx_vllm: Run, spark: Machine, laptop: Machine
) -> None:
    assert "vllm#50011" in dgx_vllm(*SERVE, "--enable-sleep-mode", on=spark).out
    assert "vllm#50011" not in dgx_vllm(*SERVE, on=spark).out
    assert "vllm#50011" not in dgx_vllm(*SERVE, "--enable-sleep-mode", on=laptop).out


def long(tmp_path: Path, size: int) -> Path:
    """A directory whose path has so many bytes."""
    path = tmp_path
    while len(str(path)) < size:
        rest = size - len(str(path)) - 1
        path /= "d" * (rest if rest < 100 else 50)
    path.mkdir(parents=True, exist_ok=True)
    assert len(str(path)) == size
    return path


def test_a_directory_too_long_for_a_socket_is_refused(dgx_vllm: Run) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        right, wrong = long(Path(top), 70), long(Path(top), 71)
        for name in ("TMPDIR", "VLLM_RPC_BASE_PATH"):
            assert dgx_vllm(*SERVE, environ={name: str(right)}).status == 0
            outcome = dgx_vllm(*SERVE, environ={name: str(wrong)})
            assert outcome.status == 2
            assert f"{name} is 71 bytes long" in outcome.err
            assert outcome.err.count("\n") == 1


def test_a_directory_that_python_passes_over_does_not_count(dgx_vllm: Run) -> None:
    assert dgx_vllm(*SERVE, environ={"TMPDIR": f"/nowhere/{'d' * 100}"}).status == 0


def test_the_limit_is_that_of_vllms_own_sockets(tmp_path: Path) -> None:
    """By binding what vLLM would, with the library that it binds by."""
    import tempfile

    import zmq

    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        from vllm.utils.network_utils import get_open_zmq_ipc_path

        for size, fits in ((70, True), (71, False)):
            name = get_open_zmq_ipc_path().rpartition("/")[2]
            with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
                address = f"ipc://{long(Path(top), size)}/{name}"
                if fits:
                    socket.bind(address)
                else:
                    with pytest.raises(zmq.ZMQError):
                        socket.bind(address)


@settings(max_examples=50)
@given(st.integers(1, 300))
def test_a_socket_of_the_users_own_has_as_much_room(size: int) -> None:
    from dgx_vllm.launch.settings.ranking import Setting, Source

    uds = {"uds": Setting("uds", "/" + "s" * (size - 1), Source.FLAG, "--uds")}
    if size <= 107:
        sockets.check({}, uds)
    else:
        with pytest.raises(UserError, match=f"--uds is {size} bytes long"):
            sockets.check({}, uds)


_LIMITS = [
    (64, 256, 256),
    (256, 4096, 4096),
    (1024, 200000, 65535),
    (1024, -1, 65535),
    (80000, -1, 80000),
]


@pytest.mark.parametrize(("soft", "hard", "then"), _LIMITS)
def test_open_files_are_raised_as_far_as_they_may_be(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, then: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
    descriptors.ensure()
    assert limits[-1] == (then, hard)


def test_too_few_open_files_are_one_line_at_once(fake_environment: dict[str, str], checkpoint: Path) -> None:
    words = shlex.join([*COMMAND, "serve", str(checkpoint), "--port", str(free_port())])
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {words}"],
        env=fake_environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done
    assert f"may have 64 files open (ulimit -n), and vLLM needs at least {descriptors.LEAST}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dgx-vllm: ")
