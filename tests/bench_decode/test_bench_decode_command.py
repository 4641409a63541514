"""`dgx-vllm bench-decode`: what it refuses, what a failing engine leaves, and the demo through vLLM."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dgx_vllm.bench_decode import command, trace
from dgx_vllm.bench_decode.job import Answer, Job, Rate
from dgx_vllm.bench_decode.result import Result
from dgx_vllm.formats.dense_dtype import additional_config
from helpers.processes import PATIENCE, alive, await_end, written

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--variant", "nothing"], "there is no variant 'nothing'"),
        (["demo", "--variant", "a=--no-such-flag 1"], "variant a: --no-such-flag"),
        (["demo", "--variant", "a=--moe-backend magic"], "variant a: --moe-backend: 'magic'"),
        (["demo", "--dense-dtype", "fp8"], "--dense-dtype belongs to a variant; give it there"),
        (["demo", "--dense-dtype=fp8"], "--dense-dtype belongs to a variant; give it there"),
        (["demo", "--variant", "a=--profile b"], "variant a: --profile is only for serve; leave it out"),
        (["demo", "--memory-reserve", "1GB"], "--memory-reserve is only for serve; leave it out"),
        (["demo", "--variant", "a=--json"], "variant a: --json is only for serve; leave it out"),
        (["demo", "--sequences", "1,x"], "--sequences must be whole numbers above 0"),
        (["demo", "--sequences", "1,²"], "--sequences must be whole numbers above 0"),
        (["demo", "--sequences", "0"], "--sequences must be whole numbers above 0"),
        (["demo", "--sequences", "16"], "variant stock: 16 sequences are more than --max-num-seqs 8"),
        (["demo", "--tokens", "2000"], "variant stock: --max-model-len 2128 is more than the 1024 tokens"),
        (
            ["demo", "--max-model-len", "200", "--tokens", "100"],
            "288 tokens do not fit into --max-model-len 200",
        ),
        (
            ["demo", "--layers", "4"],
            "--layers is for shapes (qwen3-next-80b-a3b), and demo is not one of them",
        ),
        (["qwen3-next-80b-a3b"], "is a shape without weights; add --dummy"),
        (["qwen3-next-80b-a3b", "--dummy", "--layers", "5"], "every 4th differs"),
        (["no/such/model"], "variant stock: "),
        (["demo", "--json", "/no/such/place/r.json"], "there is no directory /no/such/place"),
        (["demo", "--json", "."], "--json: . is a directory; name a file in it"),
        (["demo", "--logs", __file__], f"--logs: {__file__} is not a directory"),
        (["demo", "--logs", "/no/such/place"], "there is no directory /no/such"),
        (["demo", "--tokens", "1"], "Invalid value for '--tokens'"),
    ],
)
def test_bad_input_is_one_line_with_status_2(
    run: Run, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_run", lambda *_: pytest.fail("it was started"))
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert said in line


def answers(seconds: dict[str, float | None]) -> Callable[..., str | None]:
    """In place of an engine: a rate by the variant's name, or a failure."""

    def engine(words: Sequence[str], environ: Any, log: Path, timeout: float | None) -> str | None:
        job = msgspec.json.decode(Path(words[-1]).read_bytes(), type=Job)
        speed = seconds[log.parent.name]
        if speed is None:
            return "ended with status 1: RuntimeError: no"
        rates = tuple(Rate(n, speed * n, 1e3 / speed, (1e3 / speed,), 1.0) for n in job.sequences)
        Path(job.out).write_bytes(msgspec.json.encode(Answer("a device", 2.0, rates)))
        return None

    return engine


def test_a_variant_that_fails_leaves_the_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_run", answers({"a": 100.0, "b": None, "c": 150.0}))
    variants = [word for name in "abc" for word in ("--variant", f"{name}=--seed 1")]
    status, out, err = run("demo", *variants, "--sequences", "1,8", "--json", tmp_path / "r.json")
    assert status == 1
    assert [line.partition(":")[2] for line in err.splitlines()] == [f" {n}: --seed 1" for n in "abc"]
    assert "b: ended with status 1: RuntimeError: no" in out
    assert "1.50x" in out
    result = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Result)
    assert [each.error is None for each in result.variants] == [True, False, True]
    assert (result.device, result.dummy, result.vllm) == ("a device", False, "0.32.0")
    typed = "dgx-vllm bench-decode demo --variant 'a=--seed 1' --variant 'b=--seed 1' --variant 'c=--seed 1'"
    assert result.command == f"{typed} --sequences 1,8 --json r.json"
    assert result.ratio(result.variants[2], 8) == pytest.approx(1.5)
    assert result.ratio(result.variants[1], 8) is None


def test_ctrl_c_leaves_what_was_measured(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = answers({"a": 100.0})

    def engine(words: Sequence[str], environ: Any, log: Path, timeout: float | None) -> str | None:
        if log.parent.name == "b":
            raise KeyboardInterrupt
        return finished(words, environ, log, timeout)

    monkeypatch.setattr(command, "_run", engine)
    variants = [word for name in "abc" for word in ("--variant", f"{name}=--seed 1")]
    status, out, err = run("demo", *variants, "--json", tmp_path / "r.json")
    assert status == 130
    assert [line.partition(":")[2] for line in err.splitlines()] == [f" {n}: --seed 1" for n in "ab"]
    assert "100.0" in out
    assert "b: interrupted" in out
    result = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Result)
    assert [(each.name, each.error) for each in result.variants] == [("a", None), ("b", "interrupted")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_engine_as_ctrl_c_does(
    number: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is in a session of its own, where nothing but its parent would end it."""
    engines: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def popen(_: object, **options: Any) -> subprocess.Popen[bytes]:
        engines.append(start([sys.executable, "-c", "import time; time.sleep(3600)"], **options))
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        return engines[-1]

    monkeypatch.setattr(command.subprocess, "Popen", popen)
    # A build may run with SIGHUP ignored, which would stay so.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        status, out, _ = run("demo", "--variant", "a=--seed 1", "--json", tmp_path / "r.json")
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert status == 130
    assert "a: interrupted" in out
    assert [each.poll() for each in engines] == [-signal.SIGKILL]


def test_a_second_run_reads_no_trace_of_the_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    (logs / "a").mkdir(parents=True)
    old, other = logs / "a" / "sequences-1_rank0.1.pt.trace.json.gz", logs / "a" / "notes"
    for path in (old, other):
        path.touch()
    assert trace.files(logs / "a", 1) == trace.files(logs / "a") == [old]
    monkeypatch.setattr(command, "_run", answers({"a": 100.0}))
    assert run("demo", "--variant", "a=--seed 1", "--logs", logs)[0] == 0
    assert (old.exists(), other.exists()) == (False, True)


def test_a_variants_options_mean_what_serve_means(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's words are those of the server, the launcher's own option and the profile among them."""
    jobs: dict[str, Job] = {}

    def keep(words: Sequence[str], environ: Any, log: Path, timeout: float | None) -> str:
        jobs[log.parent.name] = msgspec.json.decode(Path(words[-1]).read_bytes(), type=Job)
        return "ended"

    monkeypatch.setattr(command, "_run", keep)
    run("demo", "--variant", "fp8", "--variant", "dgx", "--enable-prefix-caching", "--sequences", "2")
    words = jobs["fp8"].words
    assert json.loads(words[words.index("--additional-config") + 1]) == additional_config("fp8")
    assert words[words.index("--moe-backend") + 1] == "auto"
    assert words[words.index("--max-model-len") + 1] == "384"
    assert words[words.index("--max-num-seqs") + 1] == "8"  # the profile's
    assert "--enable-prefix-caching" in words
    assert "--additional-config" not in jobs["dgx"].words
    assert jobs["dgx"].sequences == (2,)
    assert jobs["dgx"].traces is None  # no kernels to trace on a CPU


def _path() -> str:
    """A child must import what this process imports."""
    return os.pathsep.join(entry for entry in sys.path if entry)


def test_an_engine_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = "sleep 3600 & echo $!; sleep {}"
    for pause, timeout, said in ((0, None, None), (3600, 3.0, "took more than 3 s")):
        log = tmp_path / "log"
        found = command._run(["/bin/sh", "-c", child.format(pause)], os.environ, log, timeout)
        assert (found or "").startswith(said or ""), found
        assert bool(found) == bool(said), found
        await_end(int(log.read_text()))


def test_ctrl_c_ends_the_engine(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        written(log)
        os.kill(os.getpid(), signal.SIGALRM)

    asking = threading.Thread(target=ask)
    before = signal.signal(signal.SIGALRM, interrupt)
    log = tmp_path / "log"
    script = "import os, time; print(os.getpid()); time.sleep(3600)"
    try:
        asking.start()
        with pytest.raises(KeyboardInterrupt):
            command._run([sys.executable, "-u", "-c", script], os.environ, log, None)
    finally:
        asking.join()
        signal.signal(signal.SIGALRM, before)
    assert not alive(int(log.read_text()))


def test_an_engine_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    """Nothing of ours runs any more that could end it."""
    log = tmp_path / "log"
    engine = [sys.executable, "-u", "-c", "import os, time; print(os.getpid()); time.sleep(3600)"]
    script = (
        "import os; from pathlib import Path; from dgx_vllm.bench_decode import command;"
        f" command._run({engine!r}, os.environ, Path({str(log)!r}), None)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": _path()})
    pid = written(log)
    killed.kill()
    killed.wait()
    await_end(pid)


def test_an_engine_that_is_told_to_end_takes_its_workers_along(tmp_path: Path) -> None:
    """`serve`'s do so by vLLM's own doing; here nothing of vLLM listens."""
    job = tmp_path / "job.json"
    job.write_bytes(msgspec.json.encode(Job((), (1,), 8, 8, 1, False, None, str(tmp_path / "out"))))
    script = """
import subprocess, sys, time
from pathlib import Path
from dgx_vllm.bench_decode import run

def start(job):
    wait = [sys.executable, "-c", "import time; time.sleep(3600)"]
    print(subprocess.Popen(wait, stdout=subprocess.DEVNULL).pid, flush=True)
    time.sleep(3600)

run._start = start
run.main(Path(sys.argv[1]))
"""
    engine = subprocess.Popen(
        [sys.executable, "-c", script, str(job)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": _path()},
    )
    assert engine.stdout is not None
    with engine.stdout:
        worker = int(engine.stdout.readline())
    engine.terminate()
    assert engine.wait(PATIENCE) == -signal.SIGKILL
    await_end(worker)


def test_an_engines_last_error_is_what_is_said(tmp_path: Path) -> None:
    script = "print('ValueError: this is why'); print('shutting down'); raise SystemExit(3)"
    found = command._run([sys.executable, "-c", script], {}, tmp_path / "log", None)
    assert found == "ended with status 3: ValueError: this is why"


@pytest.mark.engine
@pytest.mark.parametrize("dummy", [False, True])
def test_the_demo(dummy: bool, session_environment: dict[str, str], tmp_path: Path) -> None:
    """Two variants, the second with drafts: their rates, steps and, of real weights, accepted drafts."""
    drafts = json.dumps({"method": "mtp", "num_speculative_tokens": 2})
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dgx_vllm.cli", "bench-decode", "demo"),
            *("--variant", "plain=--seed 1", "--variant", f"drafts=--speculative-config '{drafts}'"),
            *("--sequences", "1,3", "--tokens", "32", "--prompt", "16", "--repeats", "2"),
            *("--json", str(tmp_path / "r.json"), *(["--dummy"] if dummy else [])),
        ],
        env={**session_environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    result = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=Result)
    plain, drafting = result.variants
    assert (result.device, result.dummy) == ("CPU", dummy)
    for each in (plain, drafting):
        assert [rate.sequences for rate in each.rates] == [1, 3]
        for rate in each.rates:
            assert rate.tokens_per_second > 0
            assert len(rate.all_step_ms) == 2
    assert [rate.tokens_per_step for rate in plain.rates] == [1, 1]
    assert all(rate.accepted is None for rate in plain.rates)
    for rate in drafting.rates:
        assert rate.accepted is not None
        taken, made = rate.accepted
        assert 0 <= taken <= made
        assert 1 <= rate.tokens_per_step <= 3
    assert "against plain" in done.stdout
