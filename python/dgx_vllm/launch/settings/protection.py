"""Protection: when the running server refuses work, and when it is ended, before the machine suffers."""

from dataclasses import dataclass

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.plan import guard, overheads
from dgx_vllm.util import amounts
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Protection:
    """Where a running server's limits are.

    Args:
        shed: bytes of MemAvailable below which new requests are refused, 0 for never.
        floor: bytes of MemAvailable below which the server is ended, 0 for never.
        watchdog: seconds of the engine's silence after which the server is ended, 0 for never.
    """

    shed: int = 0
    floor: int = 0
    watchdog: float = Options.watchdog

    def __str__(self) -> str:
        limits = []
        if self.shed:
            limits.append(f"new requests are refused below {gb(self.shed)} of available memory")
        if self.floor:
            limits.append(f"the server is ended below {gb(self.floor)} of it")
        if self.watchdog:
            limits.append(f"the server is ended when its engine is silent for {self.watchdog:g} s")
        return "; ".join(limits) or "nothing monitors the running server"


def protection(machine: Machine, reserve: int | None, options: Options) -> Protection:
    """The limits on this machine.

    Args:
        machine: memory is watched where the model lies in the host's.
        reserve: bytes left alone at the start, None for the platform's default.
        options: the launcher's own.

    Raises:
        UserError: an amount that is none, or a floor above what sheds.
    """
    guarded_reserve = reserve if reserve is not None else overheads.reserve(machine.platform)
    if not guard.guards(machine):
        guarded_reserve = 0
    shed, floor = options.memory_shed, options.memory_floor
    limits = Protection(
        int(guarded_reserve * overheads.SHED_SHARE) if shed is None else amounts.parse(shed, "--memory-shed"),
        int(guarded_reserve * overheads.FLOOR_SHARE)
        if floor is None
        else amounts.parse(floor, "--memory-floor"),
        options.watchdog,
    )
    if limits.shed and limits.floor > limits.shed:
        raise UserError(
            f"--memory-floor {gb(limits.floor)} is above --memory-shed {gb(limits.shed)}: the server would "
            "be ended before it refuses anything; give a lower floor or a higher shed"
        )
    return limits
