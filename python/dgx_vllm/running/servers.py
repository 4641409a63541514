"""Servers and services of this machine, in one form whatever runs them."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from dgx_vllm.checkpoints import draft_model
from dgx_vllm.download.command import profile_drafter
from dgx_vllm.launch.process import registry
from dgx_vllm.launch.process.registry import Entry
from dgx_vllm.profiles import profile
from dgx_vllm.running import systemd
from dgx_vllm.running.systemd import Unit
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.vllm_flags.flags import nearest

State = Literal["downloading", "starting", "ready", "stopping", "stopped", "failed"]
NONE = "no server is running; start one: dgx-vllm serve MODEL"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One server or service, as `ps --json` and `status --json` print it.

    Args:
        name: what `stop`, `logs` and `status` take: a service's name, or the port of a plain server, or its
            socket's file name.
        kind: `process` for a plain `dgx-vllm serve`; `system` and `user` for a service, by its manager.
        state: where it stands. `ready`: a token was produced.
        model: what was asked for, null where it is not known.
        served: the name that requests give, null until it is known.
        url: the server's root on this machine, null until it is known.
        socket: the Unix socket that it listens on instead of a port.
        pid: the launcher's process, null where none runs.
        since: when it came into its state, in seconds since 1970; for a plain server that starts, its start.
        unit: the systemd unit of a service.
        boots: whether a service starts with the machine, or with the session.
        restarts: how often systemd has started it again.
        detail: what systemd or the launcher says of it.
        key_file: the file with the key that clients must give, where it is known.
        has_key: whether clients must give one; null where it is not known.
        log: the file with the end of a plain server's log.
        uses: the models that it uses.
        cache: the Hugging Face cache of a service, null for a plain server.
        server: what its answer to /health has in the header dgx-vllm-server; null until it is known.
        control: a Unix socket on which a server that wants certificates of clients asks for none.
    """

    name: str
    kind: Literal["process", "system", "user"]
    state: State
    model: str | None = None
    served: str | None = None
    url: str | None = None
    socket: str | None = None
    pid: int | None = None
    since: float | None = None
    unit: str | None = None
    boots: bool = False
    restarts: int = 0
    detail: str | None = None
    key_file: str | None = None
    has_key: bool | None = None
    log: str | None = None
    uses: tuple[str, ...] = ()
    cache: str | None = None
    server: str | None = None
    control: str | None = None

    @property
    def runs(self) -> bool:
        return self.state not in ("stopped", "failed")


def known(environ: Mapping[str, str]) -> list[Server]:
    """The plain servers of this user, then the services of the system and of this user."""
    units = systemd.found(environ)
    downloads = {(unit.user, unit.name): unit for unit in units if unit.is_download}
    return [
        *(_process(entry) for entry in registry.entries(environ)),
        *(
            _service(unit, downloads.get((unit.user, f"{unit.name}-download")))
            for unit in units
            if not unit.is_download
        ),
    ]


def one(word: str | None, servers: Sequence[Server]) -> Server:
    """The server that is meant.

    Args:
        word: a name, a unit, a port, a process id, a model or a profile; None for the only one that runs.
        servers: those that there are.

    Raises:
        UserError: there is none, or more than one.
    """
    if word is None:
        running = [server for server in servers if server.runs]
        if not running:
            raise UserError(NONE, FAILURE)
        if len(running) > 1:
            raise UserError(f"several servers are running; name one: {_names(running)}")
        return running[0]
    matching = [server for server in servers if word in _words(server)]
    # A service that is stopped may have the port of a server that runs.
    matching = [server for server in matching if server.runs] or matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UserError(f"{word!r} could be any of {_names(matching)}; name one")
    if not servers:
        raise UserError(f"there is no server {word!r}: {NONE}", FAILURE)
    close = nearest(word, [server.name for server in servers])
    raise UserError(f"there is no server {word!r}; {close or f'there is {_names(servers)}'}", FAILURE)


def _names(servers: Iterable[Server]) -> str:
    return ", ".join(f"{server.name} ({server.model or server.kind})" for server in servers)


def _words(server: Server) -> set[str]:
    """Everything that means this server."""
    names = {server.name, server.model, server.served, server.url, server.socket, str(server.pid)}
    names |= {server.unit, (server.unit or "").removesuffix(".service")}
    if server.url and not server.socket:
        names.add(server.url.rpartition(":")[2])
    known_as = profile.by_model(server.model) if server.model else None
    if known_as:
        names |= {known_as.name, known_as.model}
    return {word for word in names if word}


def _process(entry: Entry) -> Server:
    return Server(
        name=Path(entry.socket).name if entry.socket else entry.url.rpartition(":")[2],
        kind="process",
        state="starting" if entry.ready is None else "ready",
        model=entry.model,
        served=entry.served,
        url=entry.url,
        socket=entry.socket,
        pid=entry.pid,
        since=entry.ready or entry.started,
        key_file=entry.key_file,
        has_key=entry.has_key,
        log=entry.log,
        uses=entry.uses,
        server=entry.server,
        control=entry.control,
    )


_STATES: dict[str, State] = {
    "active": "ready",
    "reloading": "ready",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "failed",
}


def _models(unit: Unit, download: Unit | None) -> Iterator[str]:
    """The model, and the draft model that its download fetches."""
    if unit.model is None:
        return
    yield unit.model
    config = (download or unit).speculative_config
    draft = profile_drafter(unit.model) if config is None else draft_model.read(config, unit.model)
    if draft:
        yield draft.name


def _service(unit: Unit, download: Unit | None) -> Server:
    state = _STATES.get(unit.active, "stopped")
    address = unit.told
    detail = unit.status or None
    if download and download.active == "activating" and state in ("stopped", "starting"):
        state, detail = "downloading", None
    if state == "failed" or unit.sub == "auto-restart":
        detail = f"the last run ended with: {unit.result}; its log: dgx-vllm logs {unit.name}"
    return Server(
        name=unit.name,
        kind="user" if unit.user else "system",
        state=state,
        model=unit.model,
        served=address.model if address else None,
        url=address.url if address else unit.url,
        socket=address.socket if address else None,
        pid=unit.pid,
        since=time.time() - unit.age if unit.age is not None else None,
        unit=unit.id,
        boots=unit.enabled,
        restarts=unit.restarts,
        detail=detail,
        has_key=unit.has_key,
        uses=tuple(_models(unit, download)),
        cache=unit.cache,
        server=address.server if address else None,
        control=address.control if address else None,
    )
