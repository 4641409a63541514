"""Conflicts: settings of different names for the same thing, of which one counts."""

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.ranking import Layer, Overruled, Setting, Source
from dgx_vllm.util.errors import UserError


def settle(winners: Layer, machine: Machine) -> tuple[Layer, list[Overruled], list[str]]:
    """Settles which of two settings for the same thing counts.

    Returns:
        The settings that are left, what gave way, and notes.

    Raises:
        UserError: the loser is in a config file, which vLLM reads itself.
    """
    left = dict(winners)
    overruled: list[Overruled] = []
    notes: list[str] = []

    def drop(loser: Setting, winner: Setting, why: str) -> None:
        if loser.source is Source.CONFIG_FILE:
            raise UserError(
                f"{winner.origin} cannot take back {loser.name} from {loser.origin}; delete it there"
            )
        del left[loser.name]
        overruled.append(Overruled(loser, winner, why))

    share, size = winners.get("gpu-memory-utilization"), winners.get("kv-cache-memory-bytes")
    if share and size:
        if share.source > size.source:
            drop(size, share, "vLLM would size the KV cache by the bytes and forget the share asked for")
        elif machine.platform == "cpu":
            drop(share, size, "the KV cache's size is given in bytes")
        else:
            notes.append(
                f"gpu-memory-utilization={share.text} ({share.origin}) gives way to kv-cache-memory-bytes="
                f"{size.text} ({size.origin}) for the KV cache's size, and stays in the command because "
                "vLLM still wants that share of memory free at start"
            )
    socket = winners.get("uds")
    if socket:
        for name in ("host", "port"):
            if winners[name].source is Source.DEFAULT:
                overruled.append(Overruled(winners[name], socket, "vLLM listens only on the socket"))
    return left, overruled, notes
