"""How servers are shown: a table, some lines each, or JSON."""

import time
from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from dgx_vllm.running.servers import Server

_KINDS = {"process": "", "system": "service", "user": "service (--user)"}


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a server does.

    Args:
        healthy: whether /health answers with 200 within 5 s.
        problem: why not.
        running: requests that are being answered; null where /metrics was not to be had.
        waiting: requests that wait for their turn; null as for `running`.
        kv_cache: the share of the KV cache that is in use, 0 to 1; null as for `running`.
    """

    healthy: bool
    problem: str | None = None
    running: int | None = None
    waiting: int | None = None
    kv_cache: float | None = None


class Status(Server, frozen=True, kw_only=True):
    """A server and how it does, as `status --json` prints it.

    Args:
        health: null where it was not asked, since it is not ready.
    """

    health: Health | None = None

    @classmethod
    def of(cls, server: Server, health: Health | None) -> "Status":
        return cls(**msgspec.structs.asdict(server), health=health)


def dump(servers: Sequence[Server]) -> None:
    """JSON, one array."""
    print(msgspec.json.format(msgspec.json.encode(list(servers)), indent=2).decode())


def table(servers: Sequence[Server]) -> None:
    """One line a server."""
    columns = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("name", "model", "address", "state", "since", "pid", ""):
        columns.add_column(header, overflow="fold")
    for server in servers:
        pid = "" if server.pid is None else str(server.pid)
        columns.add_row(
            server.name,
            server.model or "",
            where(server),
            server.state,
            _age(server),
            pid,
            _KINDS[server.kind],
        )
    console = Console(highlight=False)
    # Piped into a file or a pager, a table keeps its lines whole.
    (console if console.is_terminal else Console(highlight=False, width=1000)).print(columns)


def details(statuses: Sequence[Status]) -> None:
    """Some lines a server."""
    for number, status in enumerate(statuses):
        if number:
            print()
        print(f"{status.name}: {status.state}")
        for label, value in _details(status):
            print(f"  {label:8} {value}")


def _details(server: Status) -> list[tuple[str, str]]:
    rows = []
    if server.model:
        renamed = server.served is not None and server.served != server.model
        rows.append(("model", f"{server.model}{f', served as {server.served}' if renamed else ''}"))
    if where(server):
        key = ", with a key" if server.has_key else ""
        rows.append(("address", f"{where(server)}{key}"))
    if server.unit:
        boots = "starts with the session" if server.kind == "user" else "starts with the machine"
        again = f", started again {server.restarts} times" if server.restarts else ""
        rows.append(("service", f"{server.unit}{f', {boots}' if server.boots else ''}{again}"))
    if server.pid is not None:
        rows.append(("process", str(server.pid)))
    if server.since is not None:
        rows.append(("since", _age(server)))
    health = server.health
    if health is not None:
        rows.append(("health", "answers" if health.healthy else health.problem or "does not answer"))
        if health.running is not None:
            cache = "" if health.kv_cache is None else f", {health.kv_cache:.0%} of the KV cache in use"
            rows.append(("requests", f"{health.running} running, {health.waiting or 0} waiting{cache}"))
    if server.detail:
        rows.append(("detail", server.detail))
    if server.log:
        rows.append(("log", server.log))
    return rows


def where(server: Server) -> str:
    """Where clients find it: the socket, or the API's root."""
    return server.socket or (f"{server.url}/v1" if server.url else "")


def _age(server: Server) -> str:
    """How long it has been in its state."""
    return "" if server.since is None else duration(time.time() - server.since)


def duration(seconds: float) -> str:
    """Such as `42 s`, `5 min`, `3 h 12 min` or `4 d`."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 1:
        return f"{max(0, int(seconds))} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 2 else f"{days} d"
