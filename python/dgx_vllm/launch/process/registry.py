"""The registry: each running `serve` is a file in the user's state directory, locked for as long as it lives.

A lock ends with its process, however that ends, so that a file without one is left over and is removed.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One running `dgx-vllm serve`.

    Args:
        pid: the launcher's process; SIGTERM to it stops the server.
        host: the name of the machine, since a home may be shared by several.
        model: the model by the name that was asked for.
        uses: the models that its files come from: Hugging Face ids or paths.
        url: the server's root, for clients on this machine.
        socket: the Unix socket that it listens on instead of a port.
        key_file: the file with the key that clients must give.
        has_key: whether clients must give one.
        served: the name that requests give, known once the server is ready.
        started: when the launcher started, in seconds since 1970.
        ready: when the first token was produced, in seconds since 1970; None until then.
        log: the file that holds the end of its log.
        server: the word by which its answers are told from another server's, known once it is ready.
        control: the Unix socket on which it asks for no certificate, known once it is ready.
    """

    pid: int
    host: str
    model: str
    uses: tuple[str, ...]
    url: str
    socket: str | None = None
    key_file: str | None = None
    has_key: bool = False
    served: str | None = None
    started: float
    ready: float | None = None
    log: str | None = None
    server: str | None = None
    control: str | None = None


class Registration:
    """A server's own entry. What cannot be written is left out; the server does not need it.

    Args:
        entry: what is known at the start.
        environ: says where the state directory is.
    """

    def __init__(self, entry: Entry, environ: Mapping[str, str]) -> None:
        self._entry = entry
        self._lock: int | None = None
        self._file: Path | None = None
        place = directory(environ)
        if place is not None:
            with contextlib.suppress(OSError):
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = place / f"{entry.pid}-{secrets.token_hex(4)}.json"
                self._write()

    def ready(self, served: str, server: str | None = None, control: str | None = None) -> None:
        """Notes that the server answers, and how; see `Entry`."""
        self._entry = msgspec.structs.replace(
            self._entry, served=served, ready=time.time(), server=server, control=control
        )
        with contextlib.suppress(OSError):
            self._write()

    def close(self) -> None:
        """Takes the entry away."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self) -> None:
        if self._file is None:
            return
        partial = self._file.with_suffix(".part")
        # Locked before it has its name: nobody can take it for one that is left over.
        lock = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.write(lock, msgspec.json.encode(self._entry))
            partial.replace(self._file)
        except OSError:
            os.close(lock)
            partial.unlink(missing_ok=True)
            raise
        if self._lock is not None:
            os.close(self._lock)
        self._lock = lock


def directory(environ: Mapping[str, str]) -> Path | None:
    """Where entries lie: the state directory, which outlives a login; None for a user without a home."""
    state_home = environ.get("XDG_STATE_HOME")
    if state_home:
        return Path(state_home).expanduser() / "dgx-vllm" / "servers"
    try:
        home = Path(environ.get("HOME") or "~").expanduser()
    except RuntimeError:
        return None
    return home / ".local/state/dgx-vllm/servers"


def entries(environ: Mapping[str, str]) -> list[Entry]:
    """The servers of this user that run on this machine, the oldest first. Removes what is left over."""
    place = directory(environ)
    paths = sorted(place.glob("*.json")) if place is not None and place.is_dir() else []
    running = [entry for path in paths if (entry := _read(path)) is not None]
    return sorted(running, key=lambda entry: entry.started)


def _read(path: Path) -> Entry | None:
    with contextlib.suppress(OSError, msgspec.DecodeError), _opened(path) as file:
        entry = msgspec.json.decode(os.read(file, 1 << 16), type=Entry)
        if entry.host != os.uname().nodename:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return entry
        path.unlink(missing_ok=True)
    return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)
