"""The server process: started, watched, told to stop, and its end turned into an exit status."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from dgx_vllm.admission.names import CONTROL, SERVER
from dgx_vllm.launch.endpoint import asks_for_certificates
from dgx_vllm.launch.process import draft_statistics, good_starts
from dgx_vllm.launch.process.control_client import Control
from dgx_vllm.launch.process.draft_statistics import Drafted
from dgx_vllm.launch.process.log_relay import Log
from dgx_vllm.launch.process.memory_floor import Floor
from dgx_vllm.launch.process.notify import Notifier
from dgx_vllm.launch.process.progress import Progress
from dgx_vllm.launch.process.readiness import Watch
from dgx_vllm.launch.process.watchdog import Heartbeat
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import limits
from dgx_vllm.util import signals
from dgx_vllm.util.errors import FAILURE, UserError

# For its processes to end, beyond what running answers have (--shutdown-timeout): in all below the 10 s that
# `docker stop` waits before it kills.
GRACE_SECONDS = 5
TICK_SECONDS = 0.25
# Beside SIGTERM and SIGINT: a terminal that closes, and what some managers stop with.
_STOPS = (signal.SIGHUP, signal.SIGQUIT)
LOG_SECONDS = 2


class Server:
    """vLLM as a child of this process, in a process group of its own so that a whole tree can be ended.

    Args:
        launch: what to run.
        environ: this process's environment.
        notifier: told when the server is ready and when it ends.
        progress: what the user is shown.
        ready_file: the notifier's; what else its readers need lies next to it.
        keep: called with each part of the log, to keep it for later.
    """

    def __init__(
        self,
        launch: Launch,
        environ: Mapping[str, str],
        notifier: Notifier,
        progress: Progress,
        ready_file: Path | None = None,
        keep: Callable[[bytes], None] | None = None,
    ) -> None:
        self._launch = launch
        self._control = Control(ready_file) if asks_for_certificates(launch) else None
        self._environ = {**launch.environ(environ), SERVER: secrets.token_hex(8)}
        if self._control:
            self._environ[CONTROL] = str(self._control.path)
        self._watch = Watch(launch, self._environ)
        self._notifier = notifier
        self._progress = progress
        self._log = Log(keep)
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: signal.Signals | None = None
        self._killed = False
        self._reason: str | None = None
        self._drafted: Drafted | None = None
        self._watchers: list[Floor | Heartbeat] = []

    def run(self) -> int:
        """Runs the server to its end.

        Returns:
            0 after SIGTERM, SIGHUP or SIGQUIT, 130 after SIGINT, 137 if it had to be killed; if the server
            ended by itself, its own status, or 1 where that is 0, since a server that ends unasked has failed
            (vllm#48966); 1 if it was ended because it was stuck or the memory low.
        """
        handlers = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTERM, self._ask),
                (signal.SIGINT, self._ask),
                # A signal that is ignored, as under nohup, stays ignored.
                *((each, self._ask) for each in _STOPS if signal.getsignal(each) is not signal.SIG_IGN),
                (signal.SIGALRM, self._kill),
            )
        }
        try:
            self._child = subprocess.Popen(
                self._launch.argv,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                preexec_fn=signals.end_with_parent,
            )
            progress = self._progress
            for stream, to in ((self._child.stdout, progress.out), (self._child.stderr, progress.err)):
                assert stream is not None
                self._log.follow(stream, to)
            if self._asked:  # between the handler's installation and the child's birth
                self._ask(self._asked, None)
            floor = self._launch.protection.floor
            if floor:
                self._watch_over(Floor(floor, self._end_because))
            self._await_ready(self._child)
            returncode = self._child.wait()
            # Only now is everything said: what outlives the server holds its pipes open.
            self._end_group()
            self._log.finish(LOG_SECONDS)
            return self._status(returncode)
        except UserError as error:  # said like everything else: printing it could wait for a reader
            self._progress.ended(str(error))
            return error.status
        finally:
            signal.alarm(0)
            for thread in (self._watch, *self._watchers):
                thread.stop.set()
            self._end_group()  # first: nothing that fails here may leave an engine behind
            self._notifier.stopping()
            if self._control:
                self._control.remove()
            self._progress.finish()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _await_ready(self, child: subprocess.Popen[bytes]) -> None:
        began = time.monotonic()
        self._watch.start()
        while child.poll() is None and not self._asked:
            if self._watch.fault:
                self._end_because(self._watch.fault)
                return
            if self._watch.ready:
                self._notifier.ready(self._watch.ready, os.getpid())
                self._progress.ready(self._watch.ready, time.monotonic() - began)
                good_starts.record(good_starts.now(self._launch.called), self._environ)
                limit = self._launch.protection.watchdog
                if limit:
                    where = self._watch.ready.endpoint
                    self._watch_over(Heartbeat(where, limit, self._notifier.alive, self._end_because))
                return
            self._progress.wait(time.monotonic() - began, self._watch.obstacle)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(TICK_SECONDS)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        """Passes a signal on; a second one, or the end of the grace period, kills."""
        if self._asked and _frame is not None:
            # A terminal that closes says so more than once, by itself and through its shell.
            if number != signal.SIGHUP:
                self._kill(number, _frame)
            return
        self._asked = signal.Signals(number)
        self._stop_heartbeats()
        if self._child is not None:
            if self._watch.ready and limits.draft_count(self._launch.settings):
                self._drafted = draft_statistics.ask(self._watch.ready.endpoint)
            # For SIGINT, too: to vLLM both are one, and Python without vLLM's handlers yet ends silently.
            self._child.send_signal(signal.SIGTERM)
            # A server that is still loading has no answers to finish, and may not hear the signal at all.
            answers = int(self._launch.text("shutdown-timeout") or 0) if self._watch.ready else 0
            signal.alarm(GRACE_SECONDS + answers)

    def _watch_over(self, watcher: Floor | Heartbeat) -> None:
        self._watchers.append(watcher)
        watcher.start()
        if self._asked:  # while it was being made
            self._stop_heartbeats()

    def _stop_heartbeats(self) -> None:
        """vLLM takes no heartbeat while it finishes its requests; how long that may take is the alarm's."""
        for watcher in self._watchers:
            if isinstance(watcher, Heartbeat):
                watcher.stop.set()

    def _end_because(self, reason: str) -> None:
        """Ends the server at once: what is stuck, or holds the last memory, is not asked."""
        self._reason = reason
        self._end_group()

    def _kill(self, number: int, _frame: FrameType | None) -> None:
        # Nothing was cut off where a server that nobody used yet ends at the end of its grace period.
        self._killed = number != signal.SIGALRM or self._watch.ready is not None
        self._end_group()

    def _end_group(self) -> None:
        """Ends what is left of the server's process group: engines and workers that outlive their parent."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _status(self, returncode: int) -> int:
        if self._asked and not self._watch.ready:
            self._progress.stopped()
        if self._drafted:
            self._progress.drafted(self._drafted, self._launch.called)
        if self._killed:
            return 128 + signal.SIGKILL
        if self._reason:
            self._progress.ended(self._reason)
            return FAILURE
        if self._asked:
            return 128 + signal.SIGINT if self._asked is signal.SIGINT else 0
        self._progress.died(returncode, self._log.cause())
        if not self._watch.ready:
            before = good_starts.last(self._environ, self._launch.called)
            if before:
                self._progress.changed(before, good_starts.changes(before, good_starts.now(before.model)))
        if returncode < 0:
            return 128 - returncode
        return returncode or 1
