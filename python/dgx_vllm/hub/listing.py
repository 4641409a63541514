"""Listing: the files of a repository that serving needs."""

from dataclasses import dataclass

from dgx_vllm.checkpoints.file_formats import wanted

__all__ = ["File", "Listing", "wanted"]


@dataclass(frozen=True)
class File:
    """One file of a repository.

    Args:
        name: its path there.
        size: bytes.
        blob: its name among the cache's blobs: the SHA-256 in hexadecimal if it is stored with Git LFS, else
            the SHA-1 that git gives it.
    """

    name: str
    size: int
    blob: str


@dataclass(frozen=True)
class Listing:
    """What must be on disk.

    Args:
        model: the Hugging Face id.
        commit: the revision's commit in hexadecimal.
        files: the files that are wanted.
    """

    model: str
    commit: str
    files: tuple[File, ...]

    @property
    def blobs(self) -> tuple[File, ...]:
        """One file for each content, the small ones first: configs and indexes come before weights."""
        return tuple(sorted({file.blob: file for file in self.files}.values(), key=lambda file: file.size))

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.blobs)
