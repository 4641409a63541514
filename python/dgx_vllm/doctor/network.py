"""The address to listen on."""

from dgx_vllm.doctor.finding import Finding, Status
from dgx_vllm.doctor.place import Place
from dgx_vllm.launch.checks.preflight import check_port
from dgx_vllm.launch.settings import environment
from dgx_vllm.launch.settings.sources import DEFAULT_HOST, DEFAULT_PORT
from dgx_vllm.util.errors import UserError

_AREA = "network"


def findings(place: Place) -> list[Finding]:
    """Whether a server could listen where HOST and PORT, or the defaults, say."""
    settings = environment.given(place.environ)
    host, port = settings.get("HOST", DEFAULT_HOST), settings.get("PORT", str(DEFAULT_PORT))
    data = {"host": host, "port": port}
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        return [
            Finding(
                _AREA, "port", Status.FAIL, f"PORT is {port!r}", "set PORT to a number from 1 to 65535", data
            )
        ]
    try:
        check_port(host, int(port))
    except UserError as error:
        fault, _, remedy = str(error).partition("; ")
        # It may be this server, at work.
        return [Finding(_AREA, "port", Status.WARN, fault, remedy, data)]
    return [Finding(_AREA, "port", Status.OK, f"{host}:{port} is free", data=data)]
