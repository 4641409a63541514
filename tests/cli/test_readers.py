"""Commands that print, read by a program that stops reading: `dgx-vllm ... | head -1` ends with 141."""

import os
import subprocess

import pytest

from helpers.launching import COMMAND
from helpers.processes import PATIENCE


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["serve", "--help"], ["profiles"], ["doctor"], ["doctor", "--json"], ["version"]],
    ids=" ".join,
)
def test_a_reader_that_is_gone_ends_a_command_as_the_signal_would(
    fake_environment: dict[str, str], words: list[str]
) -> None:
    """On the old tree 1 or 120, and of some a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *words], env=fake_environment, stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE
    )
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b""
