"""Messages on standard error, also where nobody can read them."""

import os
import subprocess
import sys

import pytest

from dgx_vllm.util import messages

# Whoever read standard error is gone, as when a terminal is closed.
_CLOSED_TERMINAL = """
from dgx_vllm.util.messages import say, say_line
say("first")
say_line("second")
print("done")
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_message_has_the_program_name_and_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    messages.say("this machine can serve:")
    messages.say_line("  dgx-vllm serve demo")
    output = capsys.readouterr()
    assert output.err == "dgx-vllm: this machine can serve:\n  dgx-vllm serve demo\n"
    assert output.out == ""


def test_closed_terminal_does_not_stop_the_program() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _CLOSED_TERMINAL],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=writer,
            text=True,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_standard_error_closed_from_the_start_leaves_standard_output_alone() -> None:
    ended = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" 2>&-', sys.executable, _CLOSED_TERMINAL],
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_progress_is_rarer_in_a_journal_than_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    terminal = messages.progress_seconds()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert messages.progress_seconds() > terminal > 0
