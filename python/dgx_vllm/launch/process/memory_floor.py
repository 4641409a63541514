"""The floor: below it the machine is about to wedge, and the server is what can be given up.

On a GB10 the driver's allocations are in no control group (12 GiB of CUDA memory under MemoryMax=8G:
Blackwellboy/model-serving-minefield#57), so neither MemoryMax nor the kernel's OOM killer sees them in time.
"""

import threading
from collections.abc import Callable

from dgx_vllm.host import meminfo
from dgx_vllm.util.amounts import gb

SAMPLE_SECONDS = 0.25
# A short dip is not an emergency: so many samples in a row are.
SAMPLES = 4


class Floor(threading.Thread):
    """Watches MemAvailable until `stop` is set.

    Args:
        floor: bytes.
        reached: called once, with a sentence; the thread then ends.
        available: MemAvailable in bytes.
        seconds: between two samples.
    """

    def __init__(
        self,
        floor: int,
        reached: Callable[[str], None],
        available: Callable[[], int] = meminfo.available,
        seconds: float = SAMPLE_SECONDS,
    ) -> None:
        super().__init__(name="memory floor", daemon=True)
        self.stop = threading.Event()
        self._floor = floor
        self._reached = reached
        self._available = available
        self._seconds = seconds

    def run(self) -> None:
        low = 0
        while not self.stop.wait(self._seconds):
            available = self._available()
            low = low + 1 if available < self._floor else 0
            if low == SAMPLES:
                self._reached(
                    f"{gb(available)} of memory are available, less than the floor of {gb(self._floor)}: "
                    "ended before the machine wedges"
                )
                return
