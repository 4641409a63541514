"""A machine for each test that asks for one."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, alive


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for process in filter(alive, machine.waiting):
        os.kill(process, signal.SIGKILL)
