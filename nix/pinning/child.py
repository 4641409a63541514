"""Programs that run in several threads at once, and that can be ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from pinning.failure import UserError

# From the signal that asks a program to end to the one that does not ask.
GRACE_SECONDS = 5.0

_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()


def run(
    command: list[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it wrote, whatever its status.

    Raises UserError where the machine has no such program, subprocess.TimeoutExpired after `seconds`.
    """
    with _lock:
        try:
            # In a process group of its own: Ctrl-C reaches this process alone, which ends the others.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd=cwd,
                env=environment,
                process_group=0,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise UserError(f"this machine has no {command[0]}: install it, then run this again") from error
        _running.add(process)
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:
        _signal(process, signal.SIGTERM)
        try:
            process.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.communicate()
        raise
    finally:
        with _lock:
            _running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_all(number: signal.Signals = signal.SIGTERM) -> None:
    """Signal every program that `run` waits for, with all that it has started."""
    with _lock:
        for process in _running:
            _signal(process, number)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
