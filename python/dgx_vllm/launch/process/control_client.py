"""The control socket: where a server that asks for client certificates answers its launcher."""

import contextlib
import os
import tempfile
from pathlib import Path

_LONGEST = 100  # bytes; a Unix socket's path may have 107


class Control:
    """A path for the socket. Only this user may reach it: it asks for no certificate.

    Args:
        ready_file: the socket is put next to it, for `dgx-vllm health`; else into a directory of its own.
    """

    def __init__(self, ready_file: Path | None) -> None:
        self._directory: Path | None = None
        beside = Path(os.path.abspath(f"{ready_file}.control")) if ready_file else None
        if beside is None or len(os.fsencode(beside)) > _LONGEST:
            self._directory = Path(tempfile.mkdtemp(prefix="dgx-vllm-"))
            beside = self._directory / "control"
        self.path = beside
        self._unlink()  # one from an earlier run leads nowhere

    def remove(self) -> None:
        """Takes away what is left of it."""
        self._unlink()
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._directory.rmdir()

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
