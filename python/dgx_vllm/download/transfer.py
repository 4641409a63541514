"""Transfer: one attempt at one file; whatever arrives stays in its part for the next."""

import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from huggingface_hub import constants

from dgx_vllm.hub import client
from dgx_vllm.hub.faults import BrokenOffError, StalledError
from dgx_vllm.hub.listing import File, Listing

# Bytes a second below which a transfer counts as stalled: 40 GB would take a year.
_SLOWEST = 1024


def resume(listing: Listing, file: File, part: Path, arrived: Callable[[int], None]) -> None:
    """Continues a part to the file's size.

    huggingface_hub 2.4 throws a part away when a download breaks off, so that 20 GB can start over for ever.

    Args:
        listing: which repository.
        file: which file of it.
        part: where it lies until it is whole; made if it is not there.
        arrived: is given the part's size whenever it grew, in bytes.

    Raises:
        faults.REMOTE: the attempt failed.
        OSError: the part cannot be written.
    """
    # Without a buffer, what arrived is on disk however the process ends.
    with part.open("ab", buffering=0) as out:
        if out.tell() > file.size:
            _empty(out)
        if out.tell() < file.size:
            _continue(listing, file, out, arrived)


def _continue(listing: Listing, file: File, out: FileIO, arrived: Callable[[int], None]) -> None:
    with client.content(listing, file, out.tell()) as response:
        if out.tell() and response.status_code != 206:
            _empty(out)
        then, before = time.monotonic(), out.tell()
        for chunk in response.iter_bytes():
            write(out, chunk)
            arrived(out.tell())
            if out.tell() > file.size:
                _empty(out)
                raise BrokenOffError(f"more than the {file.size} bytes of {file.name} came")
            passed = time.monotonic() - then
            if passed >= constants.HF_HUB_DOWNLOAD_TIMEOUT:
                if out.tell() - before < _SLOWEST * passed and out.tell() < file.size:
                    raise StalledError(f"{out.tell() - before} bytes of {file.name} came in {passed:.0f} s")
                then, before = time.monotonic(), out.tell()
    if out.tell() < file.size:
        raise BrokenOffError(f"{file.name} ended after {out.tell()} of {file.size} bytes")


def write(out: FileIO, chunk: bytes) -> None:
    """All of it: on a disk that is nearly full, a write takes what fits."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]


def _empty(out: FileIO) -> None:
    out.truncate(0)
    out.seek(0)
