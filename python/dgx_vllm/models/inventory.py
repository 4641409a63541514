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
    others = [Path(each.cache) for each in servers if each.cache]
    found: dict[Path, Path] = {}
    for path in (own, *others, _SERVICES):
        if is_there(path):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def is_there(path: Path) -> bool:
    """Whether it is a directory that this user may read."""
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:
        return False


def models(hub: Path, servers: Sequence[Server]) -> list[tuple[Model, CachedModel]]:
    """The models of one cache, by name."""
    return [(_model(each, hub, servers), each) for each in hf_cache.models(hub)]


def _model(held: CachedModel, hub: Path, servers: Sequence[Server]) -> Model:
    made_for = profile.by_model(held.name)
    users = [each for each in servers if _uses(each, held, hub)]
    return Model(
        name=held.name,
        profile=made_for.name if made_for else None,
        size=held.size,
        freed=held.freed,
        used=held.used,
        missing=_missing(held),
        commits=tuple(each.commit for each in held.snapshots),
        servers=tuple(each.name for each in users if each.runs),
        services=tuple(each.name for each in users if not each.runs),
        cache=str(hub),
    )


def _missing(held: CachedModel) -> str | None:
    gone = sum(len(each.dangling) for each in held.snapshots)
    if held.partial:
        return "its download is incomplete"
    if gone:
        return f"{gone} files are gone" if gone > 1 else "a file is gone"
    if not held.snapshots:
        return "nothing but names"
    return "main names a commit that has not been downloaded" if "main" in held.lost else None


def _uses(server: Server, held: CachedModel, hub: Path) -> bool:
    if server.cache is not None and Path(server.cache).resolve() != hub.resolve():
        return False
    folder = held.folder.resolve()
    for name in server.uses:
        known = profile.by_model(name)
        if held.name in (name, known.model if known else name):
            return True
        if name.startswith(("/", "~", ".")) and Path(name).expanduser().resolve().is_relative_to(folder):
            return True
    return False


def is_downloading(held: CachedModel) -> bool:
    """Whether a process fetches the model now: it holds a lock then, as huggingface_hub does."""
    for path in (held.folder.parent / ".locks" / held.folder.name).glob("*.lock"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False
