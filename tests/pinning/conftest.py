"""A machine for each test that asks for one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, alive


@pytest.fixture(autouse=True)
def hangups_end_a_program() -> Iterator[None]:
    """As a terminal has it: what `nohup` starts would never see SIGHUP, nor would what it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for process in filter(alive, machine.waiting):
        os.kill(process, signal.SIGKILL)
