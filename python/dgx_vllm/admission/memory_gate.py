"""Memory: whether the machine has enough of it for new work, and which requests are none."""

import re
from collections.abc import Callable

from starlette._utils import get_route_path
from starlette.types import Scope

# What gives memory back, or ends work, in vLLM's API; what a pause is ended by, which lets no new work in by
# itself; and /ping, which SageMaker asks by POST.
_FREES = re.compile(
    r"/(sleep|pause|resume|release_kv_cache_memory|reset_(prefix|mm|encoder)_cache|(inference/v1/)?abort_requests|ping)"
    r"|/v1/(unload_lora_adapter|responses/[^/]+/cancel)"
)
_SAMPLE_SECONDS = 0.25


class Memory:
    """MemAvailable against a limit, by a sample of the last quarter of a second.

    Args:
        limit: bytes below which memory is low, 0 for never.
        available: MemAvailable in bytes.
        clock: seconds that only grow.
    """

    def __init__(self, limit: int, available: Callable[[], int], clock: Callable[[], float]) -> None:
        self._limit = limit
        self._available = available
        self._clock = clock
        self._low = False
        self._sampled = float("-inf")

    @property
    def is_low(self) -> bool:
        if self._limit and self._clock() - self._sampled >= _SAMPLE_SECONDS:
            self._sampled = self._clock()
            self._low = self._available() < self._limit
        return self._low


def is_new_work(scope: Scope) -> bool:
    """Whether a request may cost memory: refusing one that frees some would keep the machine short of it."""
    return bool(scope["method"] == "POST" and not _FREES.fullmatch(get_route_path(scope)))
