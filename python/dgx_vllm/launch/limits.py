"""Limits: the values and combinations that cannot work, found before anything is started."""

import json
from collections.abc import Callable
from typing import Any

from dgx_vllm.errors import UserError
from dgx_vllm.launch.flags import size
from dgx_vllm.launch.settings import Layer, Setting
from dgx_vllm.machine import Machine

MOST_GDN_DRAFTS = 4

_RANGES: dict[str, tuple[Callable[[str], float], Callable[[float], bool], str]] = {
    "port": (int, lambda port: 1 <= port <= 65535, "from 1 to 65535"),
    "gpu-memory-utilization": (float, lambda share: 0 < share <= 1, "above 0 and at most 1"),
    "kv-cache-memory-bytes": (size, lambda count: count > 0, "above 0"),
    "max-model-len": (lambda word: size(word, auto=True), lambda n: n > 0 or n == -1, "above 0, or auto"),
    "max-num-seqs": (int, lambda count: count > 0, "above 0"),
    "max-num-batched-tokens": (size, lambda count: count > 0, "above 0"),
    "tensor-parallel-size": (int, lambda count: count > 0, "above 0"),
    "pipeline-parallel-size": (int, lambda count: count > 0, "above 0"),
}


def check(settings: Layer, machine: Machine, gated_delta_net: bool) -> None:
    """Refuses what cannot work.

    Args:
        settings: what counts, by name.
        machine: what it runs on.
        gated_delta_net: whether the model has GDN layers.

    Raises:
        UserError: names the setting, where it was given, and what it may be.
    """
    for name, (convert, holds, wanted) in _RANGES.items():
        setting = settings.get(name)
        if setting and not holds(convert(setting.text)):
            raise UserError(f"{_named(setting)} is out of range: it must be {wanted}")
    _check_parallel(settings, machine)
    _check_drafts(settings, gated_delta_net)


def _check_parallel(settings: Layer, machine: Machine) -> None:
    """One rank takes one GPU; on CPU, at least one core."""
    nodes = settings.get("nnodes")
    backend = settings.get("distributed-executor-backend")
    if (nodes and int(nodes.text) > 1) or (backend and backend.text == "ray"):
        return  # ranks may be on other machines
    if machine.platform == "cuda" and not machine.gpus:
        return  # a dry run for another machine; starting is refused elsewhere
    room = len(machine.gpus) if machine.platform == "cuda" else machine.cpus
    noun = "GPU" if machine.platform == "cuda" else "CPU core"
    for name in ("tensor-parallel-size", "pipeline-parallel-size"):
        setting = settings.get(name)
        if setting and int(setting.text) > room:
            raise UserError(
                f"{_named(setting)} is more than this machine's {room} {noun}{'s' * (room > 1)}; "
                "lower it, or give --nnodes or --distributed-executor-backend ray"
            )


def _check_drafts(settings: Layer, gated_delta_net: bool) -> None:
    drafts = _drafts(settings)
    if drafts is None:
        return
    setting, count = drafts
    if count < 1:
        raise UserError(
            f"{setting.origin} asks for {count} drafts, which is out of range: it must be above 0"
        )
    if gated_delta_net and count > MOST_GDN_DRAFTS:
        raise UserError(
            f"{setting.origin} asks for {count} drafts, and GDN layers read illegal memory from "
            f"{MOST_GDN_DRAFTS + 1} on (vllm#37035); use at most {MOST_GDN_DRAFTS}"
        )


def draft_count(settings: Layer) -> int:
    """How many tokens are drafted for each step, 0 where none are."""
    found = _drafts(settings)
    return found[1] if found else 0


def _drafts(settings: Layer) -> tuple[Setting, int] | None:
    """The number of drafts, and the setting that says so."""
    short = settings.get("spec-tokens")
    if short:
        return short, int(short.text)
    whole = settings.get("speculative-config")
    fields: Any = json.loads(whole.text) if whole and whole.text.startswith("{") else None
    count = fields.get("num_speculative_tokens") if isinstance(fields, dict) else None
    return (whole, count) if whole and isinstance(count, int) else None


def _named(setting: Setting) -> str:
    # A flag's origin is its own name; anything else says both.
    if setting.origin == f"--{setting.name}":
        return f"{setting.origin} {setting.text}"
    return f"{setting.name} {setting.text} ({setting.origin})"
