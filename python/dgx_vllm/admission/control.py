"""The control socket: the server's own API once more, for its launcher, which has no client certificate."""

import asyncio
import os
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

_BACKLOG = 16


class Control:
    """Answers at a Unix socket that only this user may reach.

    Args:
        path: where the socket is made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self, app: ASGIApp) -> None:
        """Answers from now on, unless another process of this server does so already.

        Raises:
            OSError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._path)
        except OSError as error:
            listener.close()
            if os.path.exists(self._path):
                return
            raise OSError(error.errno, f"{self._path}: {error.strerror}") from error
        os.chmod(self._path, 0o600)  # nobody can connect before it listens
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        loop, state = asyncio.get_running_loop(), ServerState()
        self._server = await loop.create_unix_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=loop),  # type: ignore[call-arg]
            sock=listener,
            backlog=_BACKLOG,
        )

    def stop(self) -> None:
        """Takes no more connections."""
        if self._server is not None:
            self._server.close()
