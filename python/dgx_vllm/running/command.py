"""`dgx-vllm ps`, `status`, `stop` and `logs`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.launch.process import kept_log, registry
from dgx_vllm.running import report, servers, systemd
from dgx_vllm.running.report import Status
from dgx_vllm.running.servers import Server
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say

_TICK_SECONDS = 0.2
_SAY_SECONDS = 10.0


def ps(environ: Mapping[str, str], *, everything: bool, as_json: bool) -> None:
    """Lists what runs.

    Args:
        environ: the process's environment.
        everything: services that do not run, too.
        as_json: an array of `servers.Server` instead of a table.
    """
    known = servers.known(environ)
    listed = [server for server in known if everything or server.runs or server.state == "failed"]
    if as_json:
        report.dump(listed)
    elif listed:
        report.table(listed)
    else:
        stopped = sum(not server.runs for server in known)
        rest = f" ({stopped} services are stopped: dgx-vllm ps --all)" if stopped else ""
        print(f"{servers.NONE}{rest}")


def status(name: str | None, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Says how servers and services do.

    Args:
        name: which one, None for all.
        environ: the process's environment.
        as_json: an array of `report.Status` instead of text.

    Returns:
        0 where each of them is ready and answers, else 1.
    """
    from dgx_vllm.running import health  # httpx; the others need none

    known = servers.known(environ)
    chosen = known if name is None else [servers.one(name, known)]
    statuses = [Status.of(item, health.ask(item, environ)) for item in chosen]
    if as_json:
        report.dump(statuses)
    elif statuses:
        report.details(statuses)
    else:
        print(servers.NONE)
    return (
        0
        if statuses and all(item.health is not None and item.health.healthy for item in statuses)
        else FAILURE
    )


def health(environ: Mapping[str, str]) -> str:
    """The name of the only server that runs, where it is ready and answers.

    Raises:
        UserError: it is not, or there is none, or more than one.
    """
    from dgx_vllm.running.health import ask

    server = servers.one(None, servers.known(environ))
    answer = ask(server, environ)
    if answer is None:
        raise UserError(f"{server.name} is {server.state}", FAILURE)
    if not answer.healthy:
        raise UserError(f"{server.name}: {answer.problem}", FAILURE)
    return server.name


def stop(name: str | None, environ: Mapping[str, str]) -> int:
    """Stops one server and waits until it has ended.

    Args:
        name: which one, None for the only one that runs.
        environ: the process's environment.

    Returns:
        The exit status, systemctl's where a service was meant.

    Raises:
        UserError: no such server, or it is another user's.
    """
    server = servers.one(name, servers.known(environ))
    if server.unit is not None:
        return _stop_service(server)
    assert server.pid is not None
    try:
        os.kill(server.pid, signal.SIGTERM)
    except PermissionError as error:
        raise UserError(f"{server.name} belongs to another user; run it with sudo", FAILURE) from error
    except ProcessLookupError:
        raise UserError(f"{server.name} runs in another container; stop it there", FAILURE) from None
    began = time.monotonic()
    following = _SAY_SECONDS
    while any(entry.pid == server.pid for entry in registry.entries(environ)):
        time.sleep(_TICK_SECONDS)
        if time.monotonic() - began > following:
            following += _SAY_SECONDS
            say(f"{server.name} is finishing its requests; a second `dgx-vllm stop` ends it at once")
    print(f"{server.name} has stopped")
    return 0


def _stop_service(server: Server) -> int:
    assert server.unit is not None
    user = server.kind == "user"
    if not server.runs:
        print(f"{server.name} is not running")
        return 0
    # Its own words, and its question for a password where there is a terminal, are shown as they are.
    status = subprocess.run(systemd.systemctl(user, "stop", server.unit)).returncode
    if status == 0:
        manager = "systemctl --user" if user else "sudo systemctl"
        again = (
            f"; it starts again with the {'session' if user else 'machine'}: {manager} disable {server.unit}"
        )
        print(f"{server.name} has stopped{again if server.boots else ''}")
    elif not user and os.geteuid() != 0:
        say(f"a service of the system: sudo dgx-vllm stop {server.name}")
    return status


def logs(name: str | None, environ: Mapping[str, str], *, follow: bool, lines: int) -> int:
    """Shows the end of a server's log.

    Args:
        name: which one, None for the only one.
        environ: the process's environment.
        follow: go on with what comes, until Ctrl-C.
        lines: how many to begin with.

    Returns:
        0; a service's log is journalctl's, which takes this process's place.

    Raises:
        UserError: no such server, or its log is kept nowhere.
    """
    known = servers.known(environ)
    past = kept_log.of_port(name, environ)
    try:
        server = servers.one(name, known)
    except UserError:
        if past is None:
            raise
        return _print(past, lines, None, environ)
    if server.unit is not None:
        return _journal(server, follow, lines)
    if server.log is None or not Path(server.log).exists():
        raise UserError(f"{server.name} has no log here; see its terminal, or what started it", FAILURE)
    return _print(Path(server.log), lines, server.pid if follow else None, environ)


def _journal(server: Server, follow: bool, lines: int) -> int:
    assert server.unit is not None
    words = ["--unit", server.unit, f"--lines={lines}", *(["--follow"] if follow else ["--no-pager"])]
    command = systemd.journalctl(server.kind == "user", *words)
    program = shutil.which(command[0])
    if program is None:
        raise UserError("there is no journalctl on PATH", FAILURE)
    sys.stdout.flush()
    os.execv(program, command)


def _print(file: Path, lines: int, pid: int | None, environ: Mapping[str, str]) -> int:
    """The file's last lines; with a process, also what comes until it ends."""
    reader = kept_log.Reader(file)
    _write(reader.last(lines))
    if pid is None:
        return 0
    while any(entry.pid == pid for entry in registry.entries(environ)):
        _write(reader.more())
        time.sleep(_TICK_SECONDS)
    _write(reader.more())
    return 0


def _write(content: bytes) -> None:
    if content:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
