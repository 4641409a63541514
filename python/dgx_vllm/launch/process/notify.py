"""Telling others: systemd's notify socket, and a file for scripts that wait."""

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.launch.endpoint import Ready
from dgx_vllm.launch.process.registry import Registration
from dgx_vllm.util.errors import FAILURE, UserError

_SEND_SECONDS = 1.0


class Notifier:
    """Passes on what the server's state is.

    Args:
        environ: NOTIFY_SOCKET is systemd's (sd_notify(3)).
        ready_file: where to write the address once the server is ready; removed when it ends.

    Raises:
        UserError: the file cannot be written there.
    """

    def __init__(self, environ: Mapping[str, str], ready_file: Path | None) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._file = ready_file
        self._registration: Registration | None = None
        if ready_file is not None:
            if not os.access(ready_file.parent, os.W_OK):
                raise UserError(f"--ready-file {ready_file}: {ready_file.parent} cannot be written", FAILURE)
            try:
                ready_file.unlink(missing_ok=True)  # one from an earlier run would tell a lie
            except OSError as error:
                raise UserError(
                    f"--ready-file {ready_file}: {error.strerror}; name a file", FAILURE
                ) from error

    def tell(self, registration: Registration) -> None:
        """Has the server's entry in the registry follow its state, too."""
        self._registration = registration

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def ready(self, ready: Ready, pid: int) -> None:
        """Says that the server answers.

        Raises:
            UserError: the ready file could not be written; nothing of it is left.
        """
        self._send(f"READY=1\nSTATUS=serving {ready.model} at {ready.endpoint.where}")
        if self._registration:
            self._registration.ready(ready.model, ready.endpoint.server, ready.endpoint.control)
        if self._file:
            address = {"url": ready.endpoint.url, "model": ready.model, "pid": pid}
            if ready.endpoint.server:
                address["server"] = ready.endpoint.server
            if ready.endpoint.control:
                address["control"] = ready.endpoint.control
            if ready.endpoint.socket:
                address["socket"] = os.path.abspath(ready.endpoint.socket)  # who reads it may be elsewhere
            text = json.dumps(address)
            partial = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            try:
                partial.write_text(text + "\n", encoding="utf-8")
                partial.replace(self._file)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise UserError(f"--ready-file {self._file}: {error.strerror}", FAILURE) from error

    def alive(self) -> None:
        """Says that the engine answers: what WatchdogSec= waits for."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")
        if self._file:
            # How the server ended counts for more than the file.
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # The server goes on when systemd goes away or does not read.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(_SEND_SECONDS)
            client.sendto(message.encode(), address)
