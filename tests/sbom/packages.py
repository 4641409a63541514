"""Small Debian packages and wheels, as their tools make them."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from sbom.manifest import Pin


def deb(
    folder: Path,
    name: str,
    copyright: str | None = None,
    *,
    link: str | None = None,
    source: str | None = None,
) -> Pin:
    """A package with a copyright file, or with a directory that is a link to another package's."""
    control = f"Package: {name}\nVersion: 1.0-1+b1\n" + (f"Source: {source}\n" if source else "")
    data: dict[str, str | None] = {"./": None, f"./usr/bin/{name}": "program"}
    links = {}
    if link is not None:
        links[f"./usr/share/doc/{name}"] = link
    elif copyright is not None:
        data[f"./usr/share/doc/{name}/copyright"] = copyright
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": _tar({"./control": control}, {}),
        "data.tar.xz": _tar(data, links),
    }
    file = f"{name}_1.0-1+b1_arm64.deb"
    (folder / file).write_bytes(_ar(parts))
    return _pin(folder / file, f"pool/main/{name[0]}/{name}/{file}", name, "1.0-1+b1")


def wheel(folder: Path, name: str, metadata: str, files: Mapping[str, str] | None = None) -> Pin:
    """A wheel whose METADATA goes on with the lines given."""
    file = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    own = f"{name.replace('-', '_')}-1.0.dist-info/METADATA"
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(own, f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}")
        for path, content in (files or {}).items():
            archive.writestr(path, content)
    return _pin(folder / file, file, name, "1.0")


def _pin(path: Path, file: str, name: str, version: str) -> Pin:
    return Pin(file, name, version, hashlib.sha256(path.read_bytes()).hexdigest(), path)


def _tar(files: Mapping[str, str | None], links: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(content.encode())
                tar.addfile(entry, io.BytesIO(content.encode()))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()


def _ar(parts: Mapping[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, content in parts.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out
