"""Disk: the Hugging Face cache, and vLLM's."""

import os
from collections.abc import Sequence
from pathlib import Path

from dgx_vllm.checkpoints import hf_cache
from dgx_vllm.checkpoints.hf_cache import CachedModel
from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import caches, disk_space
from dgx_vllm.host.machine import GIB
from dgx_vllm.launch.checks.preflight import CACHE_BYTES
from dgx_vllm.profiles import profile
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import UserError

_AREA = "storage"


def findings(place: Place) -> list[Finding]:
    """How much is kept, and how much more fits."""
    try:
        hub, vllm = caches.hub(place.environ), caches.vllm(place.environ)
    except UserError as error:
        fault, _, remedy = str(error).partition("; ")
        return [Finding(_AREA, "caches", Status.FAIL, fault, remedy)]
    return [_hub(place, hub), _room(vllm, CACHE_BYTES, "vLLM's cache", "VLLM_CACHE_ROOT")]


def _hub(place: Place, hub: Path) -> Finding:
    models, size = hf_cache.models(hub), hf_cache.size(hub)
    cuda = place.vllm is not None and place.vllm.platform == "cuda"
    largest = max((built_in.weight_bytes for built_in in profile.builtin()), default=0)
    wanted = largest if cuda and not models else GIB
    room = _room(hub, wanted, "Hugging Face cache", "HF_HOME")
    kept = f"{len(models)} model{'s' * (len(models) != 1)}, {gb(size)}"
    # A full disk stops downloads, not what is here already.
    status = Status.WARN if room.status is Status.FAIL else room.status
    remedy, broken = room.remedy, _broken(models)
    if broken and status is Status.OK:
        status, remedy = Status.WARN, f"fetch it again: dgx-vllm download {broken[0][0]}"
    return Finding(
        _AREA,
        room.subject,
        status,
        "; ".join([kept, *(why for _, why in broken[:1]), room.value]),
        remedy,
        {**room.data, "models": len(models), "bytes": size},
    )


def _broken(models: Sequence[CachedModel]) -> list[tuple[str, str]]:
    """Models that are not whole though huggingface_hub lists them, and what is wrong with each."""
    faults = []
    for model in models:
        gone = next(
            (file for snapshot in model.snapshots if snapshot.refs for file in snapshot.dangling), None
        )
        if gone:
            faults.append((model.name, f"the content of {model.name}'s {gone} is gone"))
        elif "main" in model.lost and model.snapshots:
            faults.append((model.name, f"main of {model.name} is a commit that has not been downloaded"))
    return faults


def _room(directory: Path, wanted: int, subject: str, variable: str) -> Finding:
    disk = disk_space.room(directory)
    data = {"directory": str(directory), "free": disk.free, "wanted": wanted}
    value = f"{gb(disk.free)} free at {_short(directory)}"
    if disk.fault:
        return Finding(
            _AREA,
            subject,
            Status.FAIL,
            f"{_short(directory)} cannot be written ({disk.fault})",
            f"set {variable} to a writable directory",
            data,
        )
    if disk.free < wanted:
        return Finding(
            _AREA,
            subject,
            Status.FAIL,
            f"{value}, {gb(wanted)} wanted",
            f"make room, or set {variable} to a larger disk",
            data,
        )
    return Finding(_AREA, subject, Status.OK, value, data=data)


def _short(directory: Path) -> str:
    """As people write it, from their home directory on."""
    home = Path(os.path.expanduser("~"))
    return f"~/{directory.relative_to(home)}" if directory.is_relative_to(home) else str(directory)
