"""Unified: what vLLM 0.32 does not do where GPU and host share one memory, as on a GB10."""

from collections.abc import Mapping

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.ranking import Layer
from dgx_vllm.util.errors import UserError

_PLAN = "VLLM_ENABLE_STARTUP_PLAN"
_SLEEP = "enable-sleep-mode"


def check(environ: Mapping[str, str], machine: Machine) -> None:
    """Refuses a variable with which no engine starts.

    Args:
        environ: the variables that the server is to have.
        machine: what it runs on.

    Raises:
        UserError: says which, and why.
    """
    if _shares(machine) and environ.get(_PLAN, "0").strip() not in ("", "0"):
        raise UserError(
            f"{_PLAN}={environ[_PLAN]} asks NVML for the GPU's memory, which has no answer for a GPU that "
            "shares the host's, and the engine ends; unset it"
        )


def notes(settings: Layer, machine: Machine) -> list[str]:
    """What may go wrong later."""
    sleep = settings.get(_SLEEP)
    if sleep and sleep.value is True and _shares(machine):
        return [
            f"{_SLEEP} ({sleep.origin}): waking up has ended the engine where GPU and host share one memory "
            "(vllm#50011); stop the server to free its memory"
        ]
    return []


def _shares(machine: Machine) -> bool:
    return machine.platform == "cuda" and machine.unified
