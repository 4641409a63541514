"""Which architectures a library's GPU code is made for, by the note that ptxas leaves in it.

nvcc puts GPU code into the ELF section `.nv_fatbin`: blocks of entries, each PTX or a cubin (an ELF file),
mostly compressed with Zstandard. An entry's header has a number, 120 for sm_120, sm_120a and sm_120f alike,
and so has every listing made from it. The cubin's own section `.note.nv.tkinfo` holds ptxas's command line:
`-arch sm_120f`.

NVIDIA documents the note's content nowhere and the block's layout in part (fatbinary_section.h). The offsets
below were read off vLLM 0.32.0's modules and hold for all of them.
"""

import ctypes
import functools
import mmap
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_NOTE = b".note.nv.tkinfo"
_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ZSTD = b"\x28\xb5\x2f\xfd"
_ELF = b"\x7fELF\x02\x01"
_ARCH = re.compile(rb"-arch[ =](sm_\d+[af]?)")

_BLOCK = struct.Struct("<IHHQ")  # magic, version, header bytes, bytes of entries
_ENTRY = struct.Struct("<HHIQ")  # kind, version, header bytes, bytes of payload
_COMPRESSED = 16  # uint32: bytes of the payload without padding
_NUMBER = 28  # uint32: the architecture's number
_EXPANDED = 56  # uint64: bytes of the payload once decompressed


@dataclass
class Architectures:
    """How many pieces of code a library has for each architecture.

    Args:
        cubins: machine code by architecture, such as sm_120f; a number with a question mark, such as sm_120?,
            where the note could not be read.
        ptx: PTX by number, such as compute_80.
    """

    cubins: Counter[str] = field(default_factory=Counter)
    ptx: Counter[str] = field(default_factory=Counter)


def architectures(path: Path, major: int) -> Architectures:
    """Reads a library.

    Args:
        path: an ELF file for any processor.
        major: the major compute capability whose cubins' notes are read; others are counted by their number.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an ELF file, or is cut off.
    """
    found = Architectures()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for offset, size in _sections(data, _SECTIONS):
                for kind, number, start, stop, expanded in _entries(data, offset, offset + size):
                    if kind == _PTX:
                        found.ptx[f"compute_{number}"] += 1
                    elif kind == _CUBIN and number // 10 != major:
                        found.cubins[f"sm_{number}"] += 1
                    elif kind == _CUBIN:
                        found.cubins[_arch(data[start:stop], expanded) or f"sm_{number}?"] += 1
    except (struct.error, IndexError) as error:
        raise ValueError(f"{path} is cut off") from error
    return found


def _sections(data: mmap.mmap | bytes, names: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Offset and size of the sections with these names (System V gABI, ELF-64, little endian)."""
    if data[:6] != _ELF:
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", data, 0x3A)

    def section(index: int) -> tuple[int, int, int]:
        name, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        return name, offset, length

    _, strings, _ = section(names_at) if count else (0, 0, 0)
    for index in range(count):
        name, offset, length = section(index)
        start = strings + name
        if data[start : data.find(b"\0", start)] in names:
            yield offset, length


def _entries(data: mmap.mmap, position: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, number, start and end of the payload, and its size once decompressed, of every entry."""
    while position + _BLOCK.size <= stop:
        magic, _, header, size = _BLOCK.unpack_from(data, position)
        if magic != _MAGIC:  # padding between blocks
            position += 8
            continue
        entry, end = position + header, position + header + size
        while entry < end:
            kind, _, entry_header, payload = _ENTRY.unpack_from(data, entry)
            (compressed,) = struct.unpack_from("<I", data, entry + _COMPRESSED)
            (number,) = struct.unpack_from("<I", data, entry + _NUMBER)
            (expanded,) = struct.unpack_from("<Q", data, entry + _EXPANDED)
            start = entry + entry_header
            yield kind, number, start, start + (compressed or payload), expanded
            entry = start + payload
        position = end


def _arch(payload: bytes, expanded: int) -> str | None:
    """The architecture that ptxas was told to make a cubin for."""
    cubin = _decompress(payload, expanded) if payload[:4] == _ZSTD else payload
    if cubin is None or cubin[:6] != _ELF:
        return None
    for offset, size in _sections(cubin, (_NOTE,)):
        found = _ARCH.search(cubin[offset : offset + size])
        if found:
            return found[1].decode()
    return None


def _decompress(payload: bytes, expanded: int) -> bytes | None:
    library = _zstd()
    if library is None:
        return None
    buffer = ctypes.create_string_buffer(expanded)
    return (
        buffer.raw if library.ZSTD_decompress(buffer, expanded, payload, len(payload)) == expanded else None
    )


@functools.cache
def _zstd() -> ctypes.CDLL | None:
    """libzstd, which GCC's compilers bring into every environment that compiles; Python 3.11 has none."""
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return library
