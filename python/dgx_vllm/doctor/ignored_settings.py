"""Settings that vLLM would ignore without a word."""

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.host.machine import Vllm
from dgx_vllm.launch.settings import environment, service_links
from dgx_vllm.util.errors import UserError

_AREA = "settings"
_SHOWN = 4


def findings(place: Place) -> list[Finding]:
    """One finding for each variable that `serve` refuses; more than a few are one."""
    if place.vllm is None:
        return []
    try:
        known = environment.known(place.vllm.package)
    except (UserError, OSError) as error:
        return [
            Finding(
                _AREA, "ignored", Status.UNKNOWN, str(error), "install the vLLM that this dgx-vllm is for"
            )
        ]
    vllm, names = place.vllm, set(place.environ) - service_links.found(place.environ)
    faults = {
        name: fault
        for name in sorted(names | known & set(place.environ))
        if (fault := _fault(name, place.environ[name], known, vllm)) is not None
    }
    if not faults:
        return [Finding(_AREA, "ignored", Status.OK, "vLLM reads every variable that is set")]
    shown = list(faults)[:_SHOWN]
    results = [_finding(name, *faults[name].split(": ", 1)) for name in shown]
    rest = list(faults)[_SHOWN:]
    if rest:
        results.append(_finding("others", f"{len(rest)} more: {', '.join(rest)}", f"unset {' '.join(rest)}"))
    return results


def _finding(subject: str, value: str, remedy: str) -> Finding:
    # `serve` does not start with one of these set.
    return Finding(_AREA, subject, Status.FAIL, value, remedy)


def _fault(name: str, value: str, known: frozenset[str], vllm: Vllm) -> str | None:
    try:
        environment.check({name: value}, known, vllm.version)
        environment.check_values({name: value}, vllm.package, vllm.version)
    except UserError as error:
        return str(error)
    return None
