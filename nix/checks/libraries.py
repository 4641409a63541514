"""Does every NEEDED library of an environment resolve inside the closure?

usage: libraries.py ENVIRONMENT SYSROOT_LIBRARIES ABSENT_TOML

Follows ld.so(8): DT_RPATH (also the interpreter's, where a file has no DT_RUNPATH of its own), DT_RUNPATH,
then what the interpreter has loaded already. A library that is not found this way but lies elsewhere in the
environment is one that Python code must load first, by its path; it is listed apart. Exits 1 where a library
is nowhere, the driver's and those of the files that ABSENT_TOML excuses aside.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

# What the NVIDIA driver brings on the machine itself.
DRIVER = {
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "libnvcuvid.so.1",
    "libnvidia-encode.so.1",
    "libcudadebugger.so.1",
}


@dataclass(frozen=True)
class Library:
    """One ELF file's dynamic section, at the path by which it is loaded."""

    path: Path
    soname: str | None
    needed: tuple[str, ...]
    search: tuple[str, ...]
    has_runpath: bool


def _read(path: Path) -> Library | None:
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
        file.seek(0)
        try:
            segments = [each for each in ELFFile(file).iter_segments() if each.header.p_type == "PT_DYNAMIC"]
            tags = [tag for segment in segments for tag in segment.iter_tags()]
        except ELFError:
            return None
    runpath = [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
    rpath = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
    return Library(
        path,
        next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), None),
        tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        tuple(":".join(runpath or rpath).split(":")) if runpath or rpath else (),
        bool(runpath),
    )


def _libraries(root: Path) -> Iterator[Library]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory) / name
            if path.is_file() and (found := _read(path)) is not None:
                yield found


def _loaded_with(interpreter: Path, directory: Path) -> set[str]:
    """Names of everything that the interpreter itself needs, at first or second hand."""
    loaded: set[str] = set()
    waiting = [interpreter]
    while waiting:
        library = _read(waiting.pop())
        assert library is not None
        for name in set(library.needed) - loaded:
            loaded.add(name)
            waiting.append(directory / name)
    return loaded


def main(environment: Path, system: Path, absent: Path) -> int:
    excused = tomllib.loads(absent.read_text())["absent"]
    loaded = _loaded_with(environment / "bin/python3", system)
    libraries = list(_libraries(environment / "lib"))
    elsewhere = {name for library in libraries for name in (library.soname, library.path.name) if name}
    users: dict[str, dict[str, list[str]]] = {
        title: defaultdict(list) for title in ("loaded first by Python code", "excused", "NOWHERE")
    }
    for library in libraries:
        file = str(library.path.relative_to(environment / "lib"))
        places = [
            Path(os.path.normpath(place.replace("$ORIGIN", str(library.path.parent))))
            for place in library.search
        ]
        if not library.has_runpath:
            places.append(system)
        for name in library.needed:
            if name in DRIVER or name in loaded or any((place / name).exists() for place in places):
                continue
            if name in elsewhere:
                users["loaded first by Python code"][name].append(file)
            elif any(fnmatch(file, glob) for glob in excused):
                users["excused"][name].append(file)
            else:
                users["NOWHERE"][name].append(file)
    print(f"{len(libraries)} files need {sum(len(library.needed) for library in libraries)} libraries")
    for title, names in users.items():
        for name, files in sorted(names.items()):
            print(f"{title}: {name}, for {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else ""))
    return 1 if users["NOWHERE"] else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
