"""Resolved settings: what counts, and why."""

from dataclasses import dataclass

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.ranking import Layer, Overruled
from dgx_vllm.launch.settings.request import Request


@dataclass(frozen=True)
class Resolved:
    """The settings that count, before they become a command.

    Args:
        request: what was asked for.
        machine: what it runs on.
        settings: every setting that counts, by name.
        overruled: what was given and does not count.
        notes: what else the user should know.
        unread_links: variables that an orchestrator set and that vLLM does not read.
        compile_jobs: MAX_JOBS for compiling beside the model, and why; None where nothing is compiled so.
        refusal: why the server must not be started on this machine now, None if it may.
    """

    request: Request
    machine: Machine
    settings: Layer
    overruled: tuple[Overruled, ...]
    notes: tuple[str, ...]
    unread_links: tuple[str, ...]
    compile_jobs: tuple[int, str] | None
    refusal: str | None
