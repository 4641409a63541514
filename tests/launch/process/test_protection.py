"""What ends a running server: an engine that is silent, a machine low on memory. And the key in a file."""

import json
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.host.machine import Gpu, Machine, Vllm
from dgx_vllm.host.spark import large
from dgx_vllm.launch.endpoint import Endpoint
from dgx_vllm.launch.process.memory_floor import SAMPLES, Floor
from dgx_vllm.launch.process.notify import Notifier
from dgx_vllm.launch.process.progress import Progress
from dgx_vllm.launch.process.server import GRACE_SECONDS, Server
from dgx_vllm.launch.process.watchdog import Heartbeat
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.protection import Protection, protection
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.util.errors import UserError
from helpers.launching import FAKE, Run, Start
from helpers.processes import PATIENCE, await_end

_VLLM = Vllm("0.32.0", "cuda", FAKE / "vllm", has_command=True)
KEY = "sk-not-for-anybodys-eyes"


# --- which limits


@given(reserve=st.integers(0, 10**12))
def test_limits_are_shares_of_the_reserve(reserve: int) -> None:
    spark = Machine(_VLLM, (Gpu("NVIDIA GB10", None),), large().visible, 20, "python")
    found = protection(spark, reserve, Options())
    assert 0 <= found.floor <= found.shed <= reserve
    assert found.watchdog == 120


def test_a_spark_sheds_below_2_gb_and_ends_below_1(spark: Machine) -> None:
    assert protection(spark, None, Options()) == Protection(2 * 10**9, 10**9, 120)


def test_memory_that_is_the_gpus_own_is_not_watched(spark: Machine) -> None:
    hopper = Machine(spark.vllm, (Gpu("NVIDIA H100", 80 * 10**9),), 10**12, 20, "python")
    assert protection(hopper, None, Options()) == Protection(0, 0, 120)
    assert protection(hopper, None, Options(memory_shed="4GB", memory_floor="3GB", watchdog=0)) == Protection(
        4 * 10**9, 3 * 10**9, 0
    )


def test_a_floor_above_what_sheds_is_refused(spark: Machine) -> None:
    with pytest.raises(UserError, match=r"--memory-floor 3\.0 GB is above --memory-shed 2\.0 GB"):
        protection(spark, None, Options(memory_floor="3GB"))


def test_the_dry_run_says_what_watches(dgx_vllm: Run, spark: Machine, checkpoint: Path) -> None:
    shown = dgx_vllm("serve", str(checkpoint), "--dry-run", on=spark).out
    assert "refused below 2.0 GB of available memory; the server is ended below 1.0 GB of it" in shown
    assert "--middleware dgx_vllm.admission.Admission" in shown
    assert f"DGX_VLLM_MEMORY_SHED={2 * 10**9}" in shown
    off = dgx_vllm(
        *("serve", str(checkpoint), "--dry-run", "--memory-shed", "0", "--memory-floor", "0"),
        *("--watchdog", "0"),
        on=spark,
    ).out
    assert "nothing monitors the running server" in off
    assert "DGX_VLLM_MEMORY_SHED" not in off


# --- the floor


@given(samples=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_the_floor_is_reached_by_samples_in_a_row(samples: list[int]) -> None:
    """Samples are available bytes against a floor of 2, then plenty."""
    left = [*samples, *[9] * 4]
    said: list[str] = []
    floor = Floor(2, said.append, lambda: left.pop(0), seconds=0)

    def available() -> int:
        if len(left) == 1:
            floor.stop.set()
        return left.pop(0)

    floor._available = available
    floor.run()
    runs = "".join("x" if each < 2 else " " for each in samples).split()
    assert len(said) == any(len(run) >= SAMPLES for run in runs)


def test_a_server_on_a_machine_without_memory_is_ended(start: Start) -> None:
    server = start("--memory-shed", "1000TB", "--memory-floor", "1000TB", health_after=60)
    ended = server.end()
    assert ended.status == 1
    assert "less than the floor of 1000000.0 GB: ended before the machine wedges" in ended.err
    assert "ended by itself" not in ended.err


def test_a_stop_that_memory_cuts_short_says_so(laptop: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    """Requests that had still time are cut off: that is no clean end."""
    launch = render(resolve(Request({}, {}), laptop, frozenset()))
    progress = Progress()
    server = Server(launch, {}, Notifier({}, None), progress)
    server._asked = signal.SIGTERM
    server._end_because("no memory is left")
    assert server._status(-signal.SIGKILL) == 1
    progress.finish()
    assert "dgx-vllm: no memory is left\n" in capfd.readouterr().err


# --- the heartbeat


def test_a_stuck_engine_ends_the_server(start: Start) -> None:
    server = start("--watchdog", "1", stuck_after=1.5, deaf=True, child=True)
    ended = server.end()
    assert ended.status == 1
    assert "the engine has not answered for" in ended.err
    await_end(server.recorded("child.json"))
    assert not server.ready_file.exists()


def test_a_server_that_finishes_its_requests_is_not_stuck(start: Start) -> None:
    server = start("--watchdog", "1", "--shutdown-timeout", "30", drain=3)
    server.await_ready()
    assert server.end(signal.SIGTERM).status == 0
    assert (server.record / "drained.json").exists()


def test_requests_that_take_too_long_are_cut_off(start: Start) -> None:
    """Without a heartbeat it is the alarm that bounds how long requests may take."""
    server = start("--watchdog", "1", "--shutdown-timeout", "1", drain=3600)
    server.await_ready()
    began = time.monotonic()
    assert server.end(signal.SIGTERM).status == 137
    assert time.monotonic() - began > GRACE_SECONDS


def test_a_stop_during_a_heartbeat_makes_its_silence_count_for_nothing() -> None:
    class Ending(Endpoint):
        def client(self, timeout: float) -> httpx.Client:
            return httpx.Client(base_url=self.url, transport=httpx.MockTransport(self._answer))

        def _answer(self, _request: httpx.Request) -> httpx.Response:
            heartbeat.stop.set()
            return httpx.Response(503)

    said: list[str] = []
    heartbeat = Heartbeat(Ending("http://fake"), 0, lambda: None, said.append)
    heartbeat.run()
    assert heartbeat.stop.is_set()
    assert said == []


def test_without_a_watchdog_it_goes_on(start: Start) -> None:
    server = start("--watchdog", "0", stuck_after=0)
    server.await_ready()
    time.sleep(1.5)
    assert server.process.poll() is None


def test_systemds_watchdog_hears_of_each_heartbeat(start: Start, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(PATIENCE)
        server = start("--watchdog", "1", beats=4, environ={"NOTIFY_SOCKET": str(address)})
        said = []
        while said[-1:] != ["STOPPING=1"]:
            said.append(listening.recv(4096).decode().splitlines()[0])
        ended = server.end()
    assert ended.status == 1
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1"
    assert said.count("WATCHDOG=1") == 4


# --- the key


def test_a_key_in_a_file_reaches_the_server_and_nothing_else(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    server = start("--api-key-file", str(file), key=KEY)
    server.await_ready()
    assert server.recorded("environ.json")["VLLM_API_KEY"] == KEY
    assert KEY not in " ".join(server.recorded("argv.json"))
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    own = Path(f"/proc/{server.process.pid}/environ").read_text()
    assert KEY not in command
    assert f"VLLM_API_KEY={KEY}" not in own
    ended = server.end(signal.SIGTERM)
    assert KEY not in ended.out + ended.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "must hold one key and nothing else; it holds 0 words"),
        ("two keys", "must hold one key and nothing else; it holds 2 words"),
        (b"\xff\xfe", "cannot be read: it is not text"),
        ("schl\u00fcssel", "gives a key that no client can send"),
    ],
)
def test_a_file_without_a_key_is_refused(
    dgx_vllm: Run, tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused = dgx_vllm("serve", "--dry-run", "--api-key-file", str(file))
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    assert said in refused.err


def test_two_keys_are_refused(dgx_vllm: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    refused = dgx_vllm("serve", "--dry-run", "--api-key-file", str(file), environ={"VLLM_API_KEY": "other"})
    assert (refused.status, "both give a key; keep one" in refused.err) == (2, True)
    assert KEY not in refused.err


@pytest.mark.parametrize("place", ["--api-key", "VLLM_EXTRA_ARGS", "--config"])
@pytest.mark.parametrize("other", ["sk-other", ""])
def test_a_flag_beside_the_file_is_refused(dgx_vllm: Run, tmp_path: Path, place: str, other: str) -> None:
    """vLLM takes the flag's key, even an empty one, which opens the server to everybody."""
    file, config = tmp_path / "key", tmp_path / "c.yaml"
    file.write_text(KEY)
    config.write_text(f"api-key: '{other}'\n")
    given = {"--api-key": ["--api-key", other], "--config": ["--config", str(config)]}.get(place, [])
    environ = {place: f"--api-key '{other}'"} if place == "VLLM_EXTRA_ARGS" else {}
    words = ["serve", "--dry-run", "--api-key-file", str(file), *given]
    refused = dgx_vllm(*words, environ=environ)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert f"--api-key-file {file} and {place}" in refused.err
    assert "both give a key; keep one" in refused.err
    assert KEY not in refused.err
    assert "sk-other" not in refused.err


@pytest.mark.parametrize("key", ["", "k", "two words", "sk-1234,~!"])
def test_a_key_that_clients_can_send_is_taken(dgx_vllm: Run, key: str) -> None:
    outcome = dgx_vllm("serve", "--dry-run", environ={"VLLM_API_KEY": key})
    assert (outcome.status, outcome.err) == (0, "")


@pytest.mark.parametrize("key", ["schl\u00fcssel", "blank at the end ", "tab\tbed", "\udcff"])
@pytest.mark.parametrize("place", ["VLLM_API_KEY", "--api-key", "--config"])
def test_a_key_that_no_client_can_send_is_refused(
    dgx_vllm: Run, tmp_path: Path, place: str, key: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"api-key: [good, {json.dumps(key)}]\n")
    given = {"--api-key": ["--api-key", "good", key], "--config": ["--config", str(config)]}.get(place, [])
    refused = dgx_vllm("serve", "--dry-run", *given, environ={"VLLM_API_KEY": key} if not given else {})
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert place in refused.err
    assert "gives a key that no client can send" in refused.err
    assert key not in refused.err


def test_a_key_of_signs_passes(dgx_vllm: Run) -> None:
    key = "!#sk-~\\'=\"$"
    assert dgx_vllm("serve", "--dry-run", "--api-key", key, "").status == 0
    assert dgx_vllm("serve", "--dry-run", environ={"VLLM_API_KEY": key}).status == 0
    # What does not count is not looked at.
    assert dgx_vllm("serve", "--dry-run", "--api-key", key, environ={"VLLM_API_KEY": "\u00fc"}).status == 0
