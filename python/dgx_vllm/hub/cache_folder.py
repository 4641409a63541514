"""Storage: one model's folder in the Hugging Face cache: blobs, their parts, snapshots and refs."""

import os
from dataclasses import dataclass
from pathlib import Path

from dgx_vllm.checkpoints import hf_cache
from dgx_vllm.hub.listing import File, Listing


@dataclass(frozen=True)
class Storage:
    """Where a model's files lie, by the layout that huggingface_hub documents.

    Args:
        cache: the hub's cache.
        model: the Hugging Face id.
    """

    cache: Path
    model: str

    @property
    def folder(self) -> Path:
        """The model's own folder."""
        return hf_cache.folder(self.cache, self.model)

    @property
    def size(self) -> int:
        """Bytes of content that are here, whole or in part."""
        return sum(_size(path) or 0 for path in (self.folder / "blobs").glob("*"))

    def blob(self, file: File) -> Path:
        """Where the file's content lies once it is whole."""
        return self.folder / "blobs" / file.blob

    def part(self, file: File) -> Path:
        """Where it lies until then."""
        return self.folder / "blobs" / f"{file.blob}.incomplete"

    def lock(self, file: File) -> Path:
        """What huggingface_hub locks while it downloads this blob."""
        return self.cache / ".locks" / self.folder.name / f"{file.blob}.lock"

    def snapshot(self, commit: str) -> Path:
        """The directory that looks like the repository."""
        return self.folder / "snapshots" / commit

    def holds(self, file: File, commit: str) -> bool:
        """Whether the file is here with its size: its blob or, on a disk without symlinks, a copy."""
        return file.size in (_size(self.blob(file)), _size(self.snapshot(commit) / file.name))

    def partial(self, file: File) -> int:
        """Bytes of a part that can be continued."""
        size = _size(self.part(file)) or 0
        return size if size <= file.size else 0

    def missing(self, listing: Listing) -> int:
        """Bytes that are still to come."""
        return sum(
            file.size - self.partial(file) for file in listing.blobs if not self.holds(file, listing.commit)
        )

    def discard(self, file: File, commit: str) -> None:
        """Removes what is here of a file."""
        for path in (self.part(file), self.blob(file), self.snapshot(commit) / file.name):
            path.unlink(missing_ok=True)

    def record(self, revision: str, commit: str) -> None:
        """Notes which commit a branch or tag is; without it nothing in the cache answers to `main`."""
        if revision == commit:
            return
        reference = self.folder / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        new = reference.with_name(f".{reference.name}.{os.getpid()}")
        new.write_text(commit)
        new.replace(reference)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
