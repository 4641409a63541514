"""Which architectures a library's GPU code is made for, by the headers that fatbinary writes.

nvcc puts GPU code into the ELF section `.nv_fatbin`: blocks of entries, each PTX or a cubin (an ELF file). An
entry's header has a number, 120 for sm_120, sm_120a and sm_120f alike, and so has every listing made from it.
The suffix is in the header's flags: bit 20 for `a`, bit 21 for `f`.

NVIDIA documents the layout in part (fatbinary_section.h). The offsets and bits below were read off what nvcc
13.0.88 makes for plain, `a` and `f` targets, compressed or not, and agree with ptxas's own note in the cubins
of libraries made by others.
"""

import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_ELF = b"\x7fELF\x02\x01"

_BLOCK = struct.Struct("<IHHQ")  # magic, version, header bytes, bytes of entries
_ENTRY = struct.Struct("<HHIQ")  # kind, version, header bytes, bytes of payload
_NUMBER = 28  # uint32: the architecture's number
_FLAGS = 40  # uint64
_SUFFIXES = {0: "", 1 << 20: "a", 1 << 21: "f"}


@dataclass
class Architectures:
    """How many pieces of code a library has for each architecture.

    Args:
        cubins: machine code by architecture, such as sm_120f; sm_120? where its suffix is not known.
        ptx: PTX by architecture, in the same way, such as compute_80 and compute_90a.
    """

    cubins: Counter[str] = field(default_factory=Counter)
    ptx: Counter[str] = field(default_factory=Counter)


def architectures(path: Path) -> Architectures:
    """Reads a library.

    Args:
        path: an ELF file for any processor.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an ELF file, or is cut off.
    """
    embedded = Architectures()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for offset, size in _sections(data, _SECTIONS):
                for kind, arch in _entries(data, offset, offset + size):
                    if kind == _PTX:
                        embedded.ptx[f"compute_{arch}"] += 1
                    elif kind == _CUBIN:
                        embedded.cubins[f"sm_{arch}"] += 1
    except (struct.error, IndexError) as error:
        raise ValueError(f"{path} is cut off") from error
    return embedded


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


def _entries(data: mmap.mmap, position: int, stop: int) -> Iterator[tuple[int, str]]:
    """Kind, and number with suffix, of every entry."""
    while position + _BLOCK.size <= stop:
        magic, _, header, size = _BLOCK.unpack_from(data, position)
        if magic != _MAGIC:  # padding between blocks
            position += 8
            continue
        entry, end = position + header, position + header + size
        while entry < end:
            kind, _, entry_header, payload = _ENTRY.unpack_from(data, entry)
            (number,) = struct.unpack_from("<I", data, entry + _NUMBER)
            (flags,) = struct.unpack_from("<Q", data, entry + _FLAGS)
            yield kind, f"{number}{_SUFFIXES.get(flags & sum(_SUFFIXES), '?')}"
            entry += entry_header + payload
            if entry > len(data):
                raise IndexError
        position = end
