"""Stored models: whether a downloaded model's tensors are what its config makes vLLM build."""

from pathlib import Path

from dgx_vllm.checkpoints import checkpoint, headers, hf_cache
from dgx_vllm.checkpoints.file_formats import AUTO
from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.host import caches
from dgx_vllm.plan import source, stored_precision
from dgx_vllm.plan.stored_precision import Disagreement
from dgx_vllm.util.errors import UserError

_AREA = "models"
_SUBJECT = "stored layers"


def findings(place: Place) -> list[Finding]:
    """One finding for each model whose layers are stored otherwise than its config says, else one in all."""
    try:
        hub = caches.hub(place.environ)
    except UserError:
        return []  # the area of disks says what is wrong
    compared, told = 0, []
    for name in hf_cache.names(hub):
        several = _disagreements(name, hub, place)
        if several is None:
            continue
        compared += 1
        if several:
            told.append(_finding(name, several))
    if told or not compared:
        return told
    what = f"{compared} model{'s' * (compared > 1)}: each layer is stored as its config says"
    return [Finding(_AREA, _SUBJECT, Status.OK, what, data={"models": compared})]


def _disagreements(name: str, hub: Path, place: Place) -> tuple[Disagreement, ...] | None:
    """Those of one model, None where it is not whole or is not quantized in a way that is known."""
    try:
        directory = checkpoint.snapshot(name, hub)
        if directory is None or not headers.present(directory, AUTO) or not headers.whole(directory, AUTO):
            return None
        found = source.find(str(directory), place.environ, fetch=False)
        return stored_precision.disagreements(found.config, found.beside, headers.read(directory, AUTO))
    except (UserError, OSError, ValueError, TypeError, AttributeError):
        return None  # `download` and `serve` say what is damaged


def _finding(name: str, several: tuple[Disagreement, ...]) -> Finding:
    first = several[0]
    more = f" (and {len(several) - 1} more: dgx-vllm plan {name})" if len(several) > 1 else ""
    return Finding(
        _AREA,
        _SUBJECT,
        Status.WARN,
        f"{name}: {first.what}: {first.effect}{more}",
        first.remedy,
        {"model": name, "disagreements": [str(each) for each in several]},
    )
