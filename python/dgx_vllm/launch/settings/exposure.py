"""Exposure: whether a server answers anybody who reaches it.

nix/service/warnings.nix says the same of the module.
"""

import ipaddress
from collections.abc import Mapping

from dgx_vllm.launch.settings.ranking import Setting


def warning(settings: Mapping[str, Setting], environ: Mapping[str, str]) -> str | None:
    """What to say of a server that the network reaches and that asks for no key; None where it is not so.

    Args:
        settings: what counts, by name.
        environ: the variable counts where no flag gives a key.
    """
    host = settings["host"].text
    api_key = settings.get("api-key")
    keys = api_key.text if api_key else environ.get("VLLM_API_KEY", "")
    if keys.strip() or "uds" in settings or is_loopback(host):
        return None
    return (
        f"the server listens on {host} and requires no key; give --api-key-file, or put a reverse proxy with "
        "TLS in front of 127.0.0.1"
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own loopback, as far as its name says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
