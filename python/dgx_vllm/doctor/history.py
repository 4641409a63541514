"""What has changed since a server was last ready here."""

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.launch.process import good_starts

_AREA = "history"


def findings(place: Place) -> list[Finding]:
    """One finding, none on a machine where nothing has been served yet."""
    before = good_starts.last(place.environ, root=place.root)
    if before is None:
        return []
    changed = good_starts.changes(before, good_starts.now(before.model, place.root))
    value = f"{before.day}, {before.model}; " + (
        f"since then: {'; '.join(changed)}" if changed else "nothing has changed since"
    )
    data = {"model": before.model, "time": before.time, "changed": changed}
    return [Finding(_AREA, "last good start", Status.OK, value, data=data)]
