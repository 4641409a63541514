"""What the tests of a download share: how it ended, and what it left in the cache."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.fakehub import COMMIT, TOKEN, Hub
from helpers.processes import PATIENCE


@dataclass
class Outcome:
    """How a download ended."""

    status: int
    out: str
    err: str
    slept: list[float] = field(default_factory=list)


Run = Callable[..., Outcome]


@dataclass
class Cache:
    """The model's folder in the cache."""

    hub: Hub
    directory: Path

    @property
    def folder(self) -> Path:
        return self.directory / "models--org--model"

    def blob(self, name: str) -> Path:
        return self.folder / "blobs" / self.hub.blob(name)

    def part(self, name: str) -> Path:
        return self.folder / "blobs" / f"{self.hub.blob(name)}.incomplete"

    def placed(self, name: str) -> Path:
        return self.folder / "snapshots" / COMMIT / name

    def is_whole(self) -> bool:
        """Whether every file is there, byte for byte, and `main` leads to it."""
        return (
            (self.folder / "refs" / "main").read_text() == COMMIT
            and all(self.placed(name).read_bytes() == self.hub.files[name] for name in self.hub.files)
            and not list(self.folder.rglob("*.incomplete"))
        )


Start = Callable[..., subprocess.Popen[str]]


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Waits for the end of what `start` gave."""
    out, err = process.communicate(timeout=PATIENCE)
    assert TOKEN not in out + err
    return Outcome(process.returncode, out, err)
