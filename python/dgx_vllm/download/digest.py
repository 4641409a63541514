"""Digest: whether a file is what its blob's name says."""

import hashlib
from pathlib import Path

from dgx_vllm.hub.listing import File

_SHA256_DIGITS = 64


def matches(path: Path, file: File) -> bool:
    """Reads the file once for its SHA-256 (Git LFS) or the SHA-1 that git makes of size and content."""
    if path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        if len(file.blob) == _SHA256_DIGITS:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.blob
        header = b"blob %d\0" % file.size
        return hashlib.file_digest(content, lambda: hashlib.sha1(header)).hexdigest() == file.blob
