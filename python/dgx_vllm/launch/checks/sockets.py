"""Sockets: the directory in which vLLM's processes meet, whose path a Unix socket must have room for."""

import os
from collections.abc import Mapping

from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.util.errors import UserError

#: Bytes of a Unix socket's path, without the one that ends it (sun_path in sys/un.h).
MOST = 107
#: A slash and the UUID that vLLM names each socket by (get_open_zmq_ipc_path).
_NAME = 1 + 36
_BASE = "VLLM_RPC_BASE_PATH"
#: Where Python looks for a directory for temporary files, in order.
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")


def check(environ: Mapping[str, str], settings: Mapping[str, Setting]) -> None:
    """Refuses paths that leave no room for a socket.

    Args:
        environ: the variables that the server is to have.
        settings: what counts, by name.

    Raises:
        UserError: says which variable, how long it is and how long it may be.
    """
    name, directory = _directory(environ)
    size = len(os.fsencode(directory))
    if size > MOST - _NAME:
        raise UserError(
            f"{name} is {size} bytes long, and vLLM makes Unix sockets there, whose directory may have "
            f"{MOST - _NAME}; give a shorter one, such as TMPDIR=/tmp: {directory}"
        )
    uds = settings.get("uds")
    if uds and len(os.fsencode(uds.text)) > MOST:
        raise UserError(
            f"{uds.origin} is {len(os.fsencode(uds.text))} bytes long, and a Unix socket's path may have "
            f"{MOST}; give a shorter one"
        )


def _directory(environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that counts, and the directory that it names."""
    if _BASE in environ:
        return _BASE, environ[_BASE]
    for name in _TEMPORARY:
        path = os.path.abspath(environ[name]) if environ.get(name) else ""
        if path and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return name, path
    return "TMPDIR", "/tmp"
