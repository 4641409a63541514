"""The end of a server's log in a file: what one terminal has shown, `dgx-vllm logs` shows in another."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.launch.process import registry
from dgx_vllm.launch.rendering.launch import Launch

LIMIT = 4 << 20
"""Bytes after which a file is put aside, and the one put aside before is dropped."""

# Servers of one port, each on another address.
_SERVERS = 32


def path(launch: Launch, environ: Mapping[str, str]) -> str | None:
    """The file of a server on this port or socket; None where systemd's journal has the log, or nothing can.

    It stays when the server ends, until the next one on that port.
    """
    place = registry.directory(environ)
    if place is None or _is_journal(2, environ):
        return None
    socket = launch.text("uds")
    name = Path(socket).name if socket else str(launch.port)
    return str(place.parent / "logs" / f"{name}.log")


def _is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether what is written there goes to the journal. A desktop's terminals inherit the variable alone."""
    try:
        state = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"


def aside(file: Path) -> Path:
    """The file that holds what came before."""
    return file.with_name(f"{file.name}.1")


class Kept:
    """Writes a log into a file of limited size. If the log cannot be kept, the server runs on.

    Args:
        file: where; a file of an earlier server is put aside. While a running server writes into it, such as
            one on the same port of another address, the name gets a number.
        limit: bytes of one file.
    """

    def __init__(self, file: str | None, limit: int = LIMIT) -> None:
        self._file = Path(file) if file else None
        self._limit = limit
        self._to: int | None = None
        self._size = 0
        self._lock = threading.Lock()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim(self._file)

    @property
    def name(self) -> str | None:
        """The file's name, None where nothing is kept."""
        return str(self._file) if self._to is not None else None

    def write(self, chunk: bytes) -> None:
        """Adds to the log; from any thread."""
        with self._lock:
            if self._to is None:
                return
            if self._size + len(chunk) > self._limit:
                self._turn()
            if self._to is not None:
                with contextlib.suppress(OSError):
                    self._size += os.write(self._to, chunk)

    def close(self) -> None:
        with self._lock:
            if self._to is not None:
                os.close(self._to)
                self._to = None

    def _claim(self, wanted: Path) -> None:
        """Takes the first file that no running server writes into: its lock ends with its server."""
        for number in range(1, _SERVERS + 1):
            file = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
            try:
                self._to = _locked(file)
            except BlockingIOError:
                continue
            except OSError:
                return
            self._file = file
            if os.fstat(self._to).st_size:
                self._turn()
            return

    def _turn(self) -> None:
        """Begins a new file. The name is a locked file's all the while."""
        assert self._file is not None
        before, self._to = self._to, None
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        with contextlib.suppress(OSError):
            new = _locked(partial)
            with contextlib.suppress(OSError):  # a file system may know no links: then this part is lost
                aside(self._file).unlink(missing_ok=True)
                aside(self._file).hardlink_to(self._file)
            try:
                partial.replace(self._file)
            except OSError:
                os.close(new)
                raise
            self._to, self._size = new, 0
        if before is not None:
            os.close(before)


def _locked(file: Path) -> int:
    """Opens a file for this process alone.

    Raises:
        BlockingIOError: another process has it.
        OSError: it cannot be opened.
    """
    to = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(to, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(to), file.stat()):
            raise BlockingIOError(f"{file} was put aside meanwhile")
    except OSError:
        os.close(to)
        raise
    return to


def of_port(name: str | None, environ: Mapping[str, str]) -> Path | None:
    """The log of the last server on a port, whether or not it still runs; None where there is none."""
    place = registry.directory(environ)
    if name is None or place is None or not name.isdecimal():
        return None
    file = place.parent / "logs" / f"{name}.log"
    return file if file.is_file() else None


class Reader:
    """Reads a log, and then what is added to it, across files.

    Args:
        file: the log.
    """

    def __init__(self, file: Path) -> None:
        self._path = file
        self._file = file.open("rb")

    def last(self, lines: int) -> bytes:
        """The last lines so far, with what was put aside where one file has too few; to be called first."""
        content = self._file.read()
        if content.count(b"\n") < lines:
            with contextlib.suppress(OSError):
                content = aside(self._path).read_bytes() + content
        return b"".join(content.splitlines(keepends=True)[-lines:]) if lines > 0 else b""

    def more(self) -> bytes:
        """What has come since the last call."""
        content = self._file.read()
        with contextlib.suppress(OSError):
            if not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                content += self._file.read()  # what came before the file was put aside
                self._file = self._path.open("rb")
                content += self._file.read()
        return content
