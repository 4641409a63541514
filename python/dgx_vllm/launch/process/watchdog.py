"""The heartbeat: an engine that is alive and stuck answers nobody, and /health does not see it."""

import threading
import time
from collections.abc import Callable

import httpx

from dgx_vllm.admission.names import HEARTBEAT
from dgx_vllm.launch.endpoint import Endpoint, ForeignServerError

INTERVAL_SECONDS = 5.0


class Heartbeat(threading.Thread):
    """Asks the engine, through its API server, every few seconds until `stop` is set.

    A step of the engine may take seconds, and one that compiles a kernel longer: only silence for the whole
    of `limit` counts. How long requests wait in the engine's queue does not.

    Args:
        endpoint: where the server answers.
        limit: seconds of silence after which it is taken for stuck.
        alive: called after each answer.
        stuck: called once, with a sentence; the thread then ends.
        interval: seconds between two questions.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limit: float,
        alive: Callable[[], None],
        stuck: Callable[[str], None],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.stop = threading.Event()
        self._endpoint = endpoint
        self._limit = limit
        self._alive = alive
        self._stuck = stuck
        self._interval = min(interval, limit / 4)

    def run(self) -> None:
        last = time.monotonic()
        with self._endpoint.client(timeout=min(self._limit, 30.0)) as client:
            while not self.stop.wait(self._interval):
                try:
                    self._endpoint.own(client.get(HEARTBEAT)).raise_for_status()
                except (httpx.HTTPError, ForeignServerError):
                    silent = time.monotonic() - last
                    # A server that was told to end meanwhile owes no answer.
                    if silent >= self._limit and not self.stop.is_set():
                        self._stuck(f"the engine has not answered for {silent:.0f} s")
                        return
                else:
                    last = time.monotonic()
                    self._alive()
