"""Cached: what a Hugging Face cache holds, by the layout of huggingface_hub 2.4.

A model's folder has blobs, snapshots whose files are links to them, and refs, which name a commit for each
branch and tag. A blob may be a link in turn, into `hub/blobs/`, which all models share. On a disk without
links a snapshot's files are copies.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "models--"
_PART = ".incomplete"
_MAIN = "main"


@dataclass(frozen=True)
class Snapshot:
    """One commit of a model.

    Args:
        commit: in hexadecimal.
        path: the directory that looks like the repository.
        refs: the branches and tags that name it.
        dangling: files whose blob is gone, by their names in the repository.
    """

    commit: str
    path: Path
    refs: tuple[str, ...]
    dangling: tuple[str, ...]


@dataclass(frozen=True)
class CachedModel:
    """One model in the cache.

    Args:
        name: the Hugging Face id.
        folder: its own folder.
        size: bytes of its content, each once, with what other models share.
        freed: bytes that removing it frees.
        partial: bytes of files that have not come whole, part of both.
        used: when its content was last read or written, in seconds since 1970; a disk mounted with noatime
            knows of no reading.
        snapshots: the commits that are here, by name.
        lost: branches and tags that name a commit that is not here.
    """

    name: str
    folder: Path
    size: int
    freed: int
    partial: int
    used: float
    snapshots: tuple[Snapshot, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class _Content:
    """A file with content: its identity on the disk, and what `stat` says of it."""

    identity: tuple[int, int]
    size: int
    used: float
    partial: bool


def models(hub: Path) -> tuple[CachedModel, ...]:
    """The models in a cache, by name, however damaged.

    Args:
        hub: the cache, see `caches.hub`; it need not exist.
    """
    folders = sorted(path for path in hub.glob(f"{_PREFIX}*") if path.is_dir())
    by_folder = {folder: _contents(folder) for folder in folders}
    # Two models may share a blob, and removing one of them frees nothing of it then.
    users = Counter(identity for contents in by_folder.values() for identity in contents)
    return tuple(_model(folder, contents, users) for folder, contents in by_folder.items())


def names(hub: Path) -> list[str]:
    """The names of the models in a cache, without a look at their files."""
    return sorted(_name(path) for path in hub.glob(f"{_PREFIX}*") if path.is_dir())


def size(hub: Path) -> int:
    """Bytes of all models' content, what they share counted once."""
    contents = {key: each for folder in hub.glob(f"{_PREFIX}*") for key, each in _contents(folder).items()}
    return sum(content.size for content in contents.values())


def remove(model: CachedModel) -> None:
    """Removes a model, and what it alone has of the content that models share.

    Raises:
        OSError: its folder cannot be removed.
    """
    from huggingface_hub import DeleteCacheStrategy

    nothing: frozenset[Path] = frozenset()
    DeleteCacheStrategy(
        expected_freed_size=model.freed,
        blobs=nothing,
        refs=nothing,
        repos=frozenset([model.folder]),
        snapshots=nothing,
        cache_dir=model.folder.parent,
    ).execute()
    if model.folder.exists():  # huggingface_hub only logs what it cannot remove
        raise OSError(f"{model.folder} cannot be removed")


def _name(folder: Path) -> str:
    return folder.name.removeprefix(_PREFIX).replace("--", "/")


def folder(hub: Path, name: str) -> Path:
    """A model's own folder in a cache."""
    return hub / f"{_PREFIX}{name.replace('/', '--')}"


def commit(folder: Path, revision: str | None) -> str:
    """The commit that a branch or tag names here; a revision that no file names stands for itself."""
    name = revision or _MAIN
    try:
        # As it stands there: huggingface_hub takes a line break for a part of the name.
        return (folder / "refs" / name).read_text()
    except (OSError, ValueError):  # no branch or tag, or none that a file may be called
        return name


def snapshot(hub: Path, name: str, revision: str | None = None) -> Path | None:
    """The directory of a model's revision, whatever is in it; None where there is none.

    As huggingface_hub looks it up offline: no other commit stands in for one that is not here.
    """
    place = folder(hub, name)
    wanted = commit(place, revision)
    # By listing them: a name such as `..` leads elsewhere.
    return next((path for path in (place / "snapshots").glob("*") if path.name == wanted), None)


def others(hub: Path, name: str, revision: str | None = None) -> tuple[Path, ...]:
    """The directories of a model's other commits, the newest first."""
    place = folder(hub, name)
    wanted = commit(place, revision)
    snapshots = [path for path in (place / "snapshots").glob("*") if path.is_dir() and path.name != wanted]
    return tuple(sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True))


def _model(
    folder: Path, contents: dict[tuple[int, int], _Content], users: Counter[tuple[int, int]]
) -> CachedModel:
    refs = dict(_refs(folder))
    snapshots = sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir())
    commits = {path.name for path in snapshots}
    return CachedModel(
        name=_name(folder),
        folder=folder,
        size=sum(content.size for content in contents.values()),
        freed=sum(content.size for content in contents.values() if users[content.identity] == 1),
        partial=sum(content.size for content in contents.values() if content.partial),
        used=max((content.used for content in contents.values()), default=folder.stat().st_mtime),
        snapshots=tuple(
            Snapshot(
                path.name,
                path,
                tuple(sorted(name for name, named in refs.items() if named == path.name)),
                tuple(sorted(str(file.relative_to(path)) for file in _files(path) if not file.exists())),
            )
            for path in snapshots
        ),
        lost=tuple(sorted(name for name, named in refs.items() if named not in commits)),
    )


def _refs(folder: Path) -> Iterator[tuple[str, str]]:
    """Branches and tags with the commits that they name; a name may hold slashes."""
    root = folder / "refs"
    for path in _files(root):
        try:
            yield str(path.relative_to(root)), path.read_text()
        except (OSError, ValueError):
            continue  # huggingface_hub does not read it either


def _contents(folder: Path) -> dict[tuple[int, int], _Content]:
    """What the folder holds, by identity; links are followed, and those that lead nowhere hold nothing."""
    contents = {}
    for part in ("blobs", "snapshots"):
        for path in _files(folder / part):
            try:
                state = path.stat()
            except OSError:
                continue
            key = (state.st_dev, state.st_ino)
            if key not in contents:
                used = max(state.st_atime, state.st_mtime)
                contents[key] = _Content(key, state.st_size, used, path.name.endswith(_PART))
    return contents


def _files(directory: Path) -> Iterator[Path]:
    """Every file and link below a directory."""
    for root, _, names in os.walk(directory):
        for name in names:
            yield Path(root, name)
