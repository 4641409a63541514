"""Listing: a repository's files, and which of them serving needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

# The same weights in formats that vLLM does not read where there are safetensors.
_OTHER_FORMATS = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.onnx_data",
    "consolidated*",
    "*/consolidated*",
    "original/*",
)


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
    """What is to be on disk.

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


def wanted(names: Iterable[str]) -> set[str]:
    """The files to download: all, or without other formats of the weights where there are safetensors.

    Safetensors count where vLLM looks for them, at the top, and only if they are not left out themselves: a
    repository that has nothing but `consolidated.safetensors` keeps it.
    """
    every = set(names)
    kept = {name for name in every if not any(fnmatchcase(name, pattern) for pattern in _OTHER_FORMATS)}
    return kept if any(name.endswith(".safetensors") and "/" not in name for name in kept) else every
