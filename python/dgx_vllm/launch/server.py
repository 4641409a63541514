"""The server process: started, watched, told to stop, and its end turned into an exit status."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from types import FrameType

from dgx_vllm.launch.command import Launch
from dgx_vllm.launch.endpoint import Ready
from dgx_vllm.launch.notify import Notifier
from dgx_vllm.launch.readiness import Watch

# vLLM needs a second or two; what takes longer is stuck, and `docker stop` waits 10 s.
GRACE_SECONDS = 8
TICK_SECONDS = 0.25

_PR_SET_PDEATHSIG = 1


class Server:
    """vLLM as a child of this process, in a process group of its own so that a whole tree can be ended.

    Args:
        launch: what to run.
        environ: this process's environment.
        notifier: told when the server is ready and when it ends.
        on_wait: called until the server is ready, with seconds since the start and what is awaited.
        on_ready: called once.
        on_death: called with the return code if the server ends unasked.
    """

    def __init__(
        self,
        launch: Launch,
        environ: Mapping[str, str],
        notifier: Notifier,
        on_wait: Callable[[float, str], None],
        on_ready: Callable[[Ready, float], None],
        on_death: Callable[[int], None],
    ) -> None:
        self._launch = launch
        self._environ = launch.environ(environ)
        self._watch = Watch(launch, self._environ)
        self._notifier = notifier
        self._on_wait = on_wait
        self._on_ready = on_ready
        self._on_death = on_death
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: signal.Signals | None = None
        self._killed = False

    def run(self) -> int:
        """Runs the server to its end.

        Returns:
            0 after SIGTERM, 130 after SIGINT, 137 if it had to be killed; if the server ended by itself, its
            own status, or 1 where that is 0, since a server that ends unasked has failed (vllm#48966).
        """
        handlers = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, self._ask),
                (signal.SIGINT, self._ask),
                (signal.SIGALRM, self._kill),
            )
        }
        try:
            self._child = subprocess.Popen(
                self._launch.argv,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                process_group=0,
                preexec_fn=_end_with_parent,
            )
            if self._asked:  # between the handler's installation and the child's birth
                self._ask(self._asked, None)
            self._await_ready(self._child)
            return self._status(self._child.wait())
        finally:
            signal.alarm(0)
            self._watch.stop.set()
            self._notifier.stopping()
            self._end_group()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _await_ready(self, child: subprocess.Popen[bytes]) -> None:
        began = time.monotonic()
        self._watch.start()
        while child.poll() is None and not self._asked:
            if self._watch.ready:
                self._notifier.ready(self._watch.ready, os.getpid())
                self._on_ready(self._watch.ready, time.monotonic() - began)
                return
            self._on_wait(time.monotonic() - began, self._watch.obstacle)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TICK_SECONDS)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        """Passes a signal on; a second one, or the end of the grace period, kills."""
        if self._asked and _frame is not None:
            self._kill(number, _frame)
            return
        self._asked = signal.Signals(number)
        if self._child is not None:
            self._child.send_signal(number)
            signal.alarm(GRACE_SECONDS + int(self._launch.text("shutdown-timeout") or 0))

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        self._killed = True
        self._end_group()

    def _end_group(self) -> None:
        """Ends what is left of the server's process group: engines and workers that outlive their parent."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _status(self, returncode: int) -> int:
        if self._killed:
            return 128 + signal.SIGKILL
        if self._asked:
            return 0 if self._asked is signal.SIGTERM else 128 + self._asked
        self._on_death(returncode)
        if returncode < 0:
            return 128 - returncode
        return returncode or 1


def _end_with_parent() -> None:
    """Asks the kernel to end the server if the launcher is killed: an orphan would hold the GPU's memory."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
