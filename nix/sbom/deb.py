"""A Debian package, as in its archive: its source package, and where its copyright file is."""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_DOCUMENTATION = "usr/share/doc"
_SOURCE = re.compile(r"^Source: (\S+)(?: \((.+)\))?$", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """The source package that a package was built from."""

    name: str
    version: str


@dataclass(frozen=True)
class Linked:
    """The name of a package whose copyright file is another's too."""

    name: str


class Deb:
    """The package at `path`, which is called `name` and has `version`."""

    def __init__(self, path: Path, name: str, version: str) -> None:
        self._name = name
        self._members = _members(path.read_bytes())
        match = _SOURCE.search(_control(self._members["control.tar.xz"]))
        self.source = Source(match[1] if match else name, (match[2] if match else None) or version)

    def copyright(self) -> str | Linked | None:
        """The text of its copyright file, or the package whose file stands in for its own."""
        return _copyright(self._members["data.tar.xz"], self._name)


def _members(archive: bytes) -> dict[str, bytes]:
    """What an ar archive holds, by name."""
    if not archive.startswith(b"!<arch>\n"):
        raise ValueError("not a Debian package")
    members, position = {}, 8
    while position < len(archive):
        header = archive[position : position + 60]
        size = int(header[48:58])
        name = header[:16].decode().strip().rstrip("/")
        members[name] = archive[position + 60 : position + 60 + size]
        position += 60 + size + size % 2
    return members


def _control(archive: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
        file = tar.extractfile("./control")
        assert file is not None
        return file.read().decode()


def _copyright(archive: bytes, name: str) -> str | Linked | None:
    directory = f"./{_DOCUMENTATION}/{name}"
    with lzma.open(io.BytesIO(archive)) as data, tarfile.open(fileobj=data, mode="r|") as tar:
        for member in tar:
            path = member.name.rstrip("/")
            if path == directory and member.issym():
                return Linked(PurePosixPath(member.linkname).name)
            if path == f"{directory}/copyright":
                if member.issym():
                    return Linked(PurePosixPath(member.linkname).parent.name)
                file = tar.extractfile(member)
                assert file is not None
                return file.read().decode(errors="replace")
    return None
