"""Links: the variables that Kubernetes, and Docker's old links, set for every service called vllm or vllm-….

Nobody gave them, and vLLM reads none of them, except where a name happens to be one of its own.
"""

import re
from collections.abc import Mapping

# One prefix a service: its name in capitals, with underscores for dashes.
_SERVICE = r"VLLM(?:_[A-Z0-9_]+?)?"
_PORT = r"_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PROTO|START|END|PORT|PORT_START|PORT_END))?"
_BY_NAME = re.compile(rf"{_SERVICE}(?:_SERVICE_HOST|_SERVICE_PORT(?:_[A-Z0-9_]+)?|{_PORT})")
_URL = re.compile(r"(?:tcp|udp|sctp)://.*")
_COPIED = re.compile(rf"({_SERVICE})_ENV_.+")

ADVICE = (
    "it looks like the link that Kubernetes sets for a service of that name; set enableServiceLinks: false "
    "in the pod's spec, or rename the service"
)
"""What to do about a value that is one."""


def is_link(value: str) -> bool:
    """Whether a value is an address as links give it, such as `tcp://10.0.0.20:8000`."""
    return _URL.fullmatch(value) is not None


def found(environ: Mapping[str, str]) -> frozenset[str]:
    """The names of the variables that are links."""
    return frozenset(name for name, value in environ.items() if _is_of_service(name, value, environ))


def _is_of_service(name: str, value: str, environ: Mapping[str, str]) -> bool:
    if _BY_NAME.fullmatch(name):
        return True
    if name.startswith("VLLM_") and name.endswith("_PORT"):
        return is_link(value)
    if name.startswith("VLLM_") and name.endswith("_NAME"):
        return value.startswith("/")  # Docker's: the paths of the two containers
    # Docker copies the other container's variables, and always gives its name.
    copied = _COPIED.fullmatch(name)
    return copied is not None and (
        copied[1] == "VLLM" or environ.get(f"{copied[1]}_NAME", "").startswith("/")
    )
