"""Destination: the directory that a pruned checkpoint grows in.

A file has its name once it is whole; config.json comes last, so that half a checkpoint is none to anybody. A
record of what is being written lies next to the files, and only the same goes on from there.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from dgx_vllm.util.errors import FAILURE, UserError

RECORD = "dgx_vllm_prune.json"
_PART = ".part"
_CHUNK = 2**24


class Record(msgspec.Struct, frozen=True):
    """What is being written.

    Args:
        method, pattern, targets: as asked for.
        calibration: a digest of the file, if any.
        files: of the source, by name: bytes and time of change in nanoseconds.
        version: dgx-vllm's.
    """

    method: str
    pattern: str
    targets: tuple[str, ...]
    calibration: str | None
    files: dict[str, tuple[int, int]]
    version: str


class Destination:
    """A directory, new or begun earlier.

    Args:
        path: the directory.
        record: of what will be written.

    Raises:
        UserError: something else is there.
    """

    def __init__(self, path: Path, record: Record) -> None:
        self.path, self._record = path, record
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; give an OUT that does not exist")
        if path.is_dir() and any(path.iterdir()):
            self._check()

    def _check(self) -> None:
        try:
            existing = msgspec.json.decode((self.path / RECORD).read_bytes(), type=Record)
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path} exists and is not a pruned checkpoint; give an OUT that does not exist"
            ) from error
        except msgspec.DecodeError as error:
            raise UserError(
                f"{self.path / RECORD} is damaged ({error}); remove {self.path} and run this again"
            ) from error
        if existing != self._record:
            raise UserError(
                f"{self.path} holds a checkpoint pruned from other files or in another way "
                f"({existing.pattern}, {existing.method}); give another OUT, or remove it"
            )

    @property
    def finished(self) -> bool:
        return (self.path / "config.json").is_file()

    def has(self, name: str) -> bool:
        """Whether a file is whole."""
        return (self.path / name).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The directory, made if it is missing, with no other process writing to it.

        Raises:
            UserError: another one is.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.has(RECORD):
            self.json(RECORD, msgspec.to_builtins(self._record))
        with (self.path / RECORD).open("rb") as record:
            try:
                fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"another process is writing {self.path}; wait for it, or give another OUT", FAILURE
                ) from error
            yield

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A file to write; it has its name once the block has ended well."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + _PART)
        with part.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)

    def copy(self, source: Path, name: str) -> None:
        """A file as it is."""
        with source.open("rb") as read, self.file(name) as written:
            shutil.copyfileobj(read, written, _CHUNK)

    def json(self, name: str, value: Any) -> None:
        """A JSON file, laid out as Hugging Face tools do."""
        with self.file(name) as file:
            file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def copy_range(read: BinaryIO, written: BinaryIO, begin: int, end: int, tell: Callable[[int], None]) -> None:
    """Copies bytes to the same place in another file, a chunk at a time.

    Args:
        tell: is given the bytes of each chunk.
    """
    read.seek(begin)
    written.seek(begin)
    while begin < end:
        chunk = read.read(min(_CHUNK, end - begin))
        if not chunk:
            raise OSError(f"{read.name} ended early; it changes while it is read")
        written.write(chunk)
        tell(len(chunk))
        begin += len(chunk)
