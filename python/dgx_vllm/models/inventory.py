"""Which models are in which caches, and which servers use them."""

import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from dgx_vllm.checkpoints import hf_cache
from dgx_vllm.checkpoints.hf_cache import CachedModel
from dgx_vllm.host import caches
from dgx_vllm.profiles import profile
from dgx_vllm.running.servers import Server

#: Where systemd keeps what services download, with and without a unit that is still there.
_SERVICES = Path("/var/cache/dgx-vllm/huggingface/hub")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One downloaded model, as `list --json` prints it.

    Args:
        name: its Hugging Face id.
        profile: the profile that is made for it, null where there is none.
        size: bytes of its content, what it shares with other models among them.
        freed: bytes that removing it frees.
        used: when its content was last read or written, in seconds since 1970; a disk mounted with noatime
            knows of no reading.
        missing: what is not whole: files or a commit that are gone, or did not come; null where all is well.
        commits: the commits that are here.
        servers: the names of running servers that use it.
        services: the names of services that do not run and would use it.
        cache: the Hugging Face cache that holds it.
    """

    name: str
    profile: str | None
    size: int
    freed: int
    used: float
    missing: str | None
    commits: tuple[str, ...]
    servers: tuple[str, ...]
    services: tuple[str, ...]
    cache: str


def hubs(environ: Mapping[str, str], servers: Iterable[Server]) -> list[Path]:
    """This user's cache, then those of services, each once and only where it is there.

    Args:
        environ: says where this user's cache is.
        servers: those that are known.
    """
    own = caches.hub(environ)
    others = [Path(server.cache) for server in servers if server.cache]
    by_path: dict[Path, Path] = {}
    for path in (own, *others, _SERVICES):
        if is_there(path):
            by_path.setdefault(path.resolve(), path)
    return list(by_path.values())


def is_there(path: Path) -> bool:
    """Whether it is a directory that this user may read."""
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:
        return False


def models(hub: Path, servers: Sequence[Server]) -> list[tuple[Model, CachedModel]]:
    """The models of one cache, by name."""
    return [(_model(cached, hub, servers), cached) for cached in hf_cache.models(hub)]


def _model(cached: CachedModel, hub: Path, servers: Sequence[Server]) -> Model:
    made_for = profile.by_model(cached.name)
    users = [item for item in servers if _uses(item, cached, hub)]
    return Model(
        name=cached.name,
        profile=made_for.name if made_for else None,
        size=cached.size,
        freed=cached.freed,
        used=cached.used,
        missing=_missing(cached),
        commits=tuple(item.commit for item in cached.snapshots),
        servers=tuple(item.name for item in users if item.runs),
        services=tuple(item.name for item in users if not item.runs),
        cache=str(hub),
    )


def _missing(cached: CachedModel) -> str | None:
    gone = sum(len(snapshot.dangling) for snapshot in cached.snapshots)
    if cached.partial:
        return "its download is incomplete"
    if gone:
        return f"{gone} files are gone" if gone > 1 else "a file is gone"
    if not cached.snapshots:
        return "nothing but names"
    return "main names a commit that has not been downloaded" if "main" in cached.lost else None


def _uses(server: Server, cached: CachedModel, hub: Path) -> bool:
    if server.cache is not None and Path(server.cache).resolve() != hub.resolve():
        return False
    folder = cached.folder.resolve()
    for name in server.uses:
        known = profile.by_model(name)
        if cached.name in (name, known.model if known else name):
            return True
        if name.startswith(("/", "~", ".")) and Path(name).expanduser().resolve().is_relative_to(folder):
            return True
    return False


def is_downloading(cached: CachedModel) -> bool:
    """Whether a process fetches the model now: it holds a lock then, as huggingface_hub does."""
    for path in (cached.folder.parent / ".locks" / cached.folder.name).glob("*.lock"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False
