"""SIGTERM: at once, and the parts stay."""

import signal
import subprocess
import sys
import time

import pytest
from downloading import Cache, Start, ended

from dgx_vllm.util import sigterm
from helpers.fakehub import DOWN, Behaviour, Hub
from helpers.processes import PATIENCE, until

WEIGHTS = "model.safetensors"

# One call that no signal interrupts, as getaddrinfo without an answer.
_DEAF = """
import hashlib
from dgx_vllm.util import sigterm
with sigterm.on_sigterm("told to end"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
"""


def test_in_the_middle_of_a_file(start: Start, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=120_000, held=True))
    process = start()
    assert hub.holding.wait(PATIENCE)
    _await_size(cache, 120_000)
    process.terminate()
    outcome = ended(process)
    assert outcome.status == 143
    assert outcome.err.splitlines()[-1].startswith("dgx-vllm: stopped by SIGTERM; the data so far is kept")
    assert cache.part(WEIGHTS).stat().st_size == 120_000

    outcome = ended(start())
    assert outcome.status == 0
    assert [each.start for each in hub.asked(WEIGHTS)] == [0, 120_000]
    assert hub.sent() == sum(map(len, hub.files.values()))
    assert cache.is_whole()


def test_two_at_once_do_not_write_into_one_part(start: Start, hub: Hub, cache: Cache) -> None:
    hub.fails(WEIGHTS, Behaviour(sent=120_000, held=True))
    first = start()
    assert hub.holding.wait(PATIENCE)
    _await_size(cache, 120_000)
    second = start()
    until(lambda: hub.listings == 2)
    time.sleep(0.5)
    assert len(hub.asked(WEIGHTS)) == 1
    first.terminate()
    assert ended(first).status == 143
    assert ended(second).status == 0
    assert [each.start for each in hub.asked(WEIGHTS)] == [0, 120_000]
    assert cache.is_whole()


def test_while_it_waits_for_the_next_attempt(start: Start, hub: Hub) -> None:
    hub.listing = [DOWN] * 20
    process = start()
    assert process.stderr is not None
    assert "again in 5 s" in process.stderr.readline()
    process.terminate()
    assert ended(process).status == 143
    assert hub.listings == 1


def test_while_the_interpreter_is_held(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _DEAF],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        outcome = ended(process)
    finally:
        process.kill()
    assert outcome.status == 143
    assert outcome.err == "told to end\n"


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_signal_means_what_it_did(fails: bool) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with sigterm.on_sigterm("never said"):
            assert signal.getsignal(signal.SIGTERM) != before
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


def _await_size(cache: Cache, size: int) -> None:
    part = cache.part(WEIGHTS)
    until(lambda: part.exists() and part.stat().st_size == size)
