"""The base of a GB10's environment is Debian's own files, ELF headers aside.

GB10_BASE names the assembled sysroot and GB10_DEBS a file that lists the packages it was made from.
"""

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

pytestmark = pytest.mark.skipif("GB10_BASE" not in os.environ, reason="GB10_BASE names no assembled sysroot")

TRIPLE = "aarch64-linux-gnu"
LOADER = f"usr/lib/{TRIPLE}/ld-linux-aarch64.so.1"
#: What nix/base/sysroot.nix leaves out: documentation, and what belongs to a running system.
LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/lintian/")
LEFT_OUT += ("usr/share/bug/", "var/", "run/", "tmp/", "home/", "root/", "srv/", "sys/", "proc/", "boot/")


def _files(deb: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files of a package that the sysroot keeps, by path."""
    data = subprocess.run(["ar", "-p", deb, "data.tar.xz"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(data), mode="r:xz") as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if member.isfile() and not path.startswith(LEFT_OUT):
                content = archive.extractfile(member)
                assert content is not None
                yield path, content.read()


def _is_elf(content: bytes) -> bool:
    return content.startswith(b"\x7fELF")


def _code(content: bytes) -> dict[str, str]:
    """Digests of the sections that hold what a program does."""
    sections = ELFFile(BytesIO(content)).iter_sections()
    kept = (".text", ".rodata", ".data", ".init", ".fini", ".plt", ".eh_frame")
    return {each.name: hashlib.sha256(each.data()).hexdigest() for each in sections if each.name in kept}


def _dynamic(content: bytes) -> tuple[str | None, str | None, bool]:
    """An ELF file's interpreter, its RPATH, and whether it asks for a library."""
    interpreter, rpath, needs = None, None, False
    for segment in ELFFile(BytesIO(content)).iter_segments():
        if segment.header.p_type == "PT_INTERP":
            interpreter = segment.get_interp_name()
        elif segment.header.p_type == "PT_DYNAMIC":
            rpath = next((tag.rpath for tag in segment.iter_tags("DT_RPATH")), None)
            needs = any(segment.iter_tags("DT_NEEDED"))
    return interpreter, rpath, needs


@pytest.fixture(scope="module")
def base() -> Path:
    return Path(os.environ["GB10_BASE"])


@pytest.fixture(scope="module")
def pairs(base: Path) -> dict[str, tuple[bytes, bytes]]:
    """Path in a package -> its bytes there and its bytes in the sysroot."""
    debs = Path(os.environ["GB10_DEBS"]).read_text().split()
    assert len(debs) > 90
    return {
        path: (content, (base / path).read_bytes() if (base / path).exists() else b"")
        for deb in debs
        for path, content in _files(Path(deb))
    }


def test_every_file_of_every_package_is_there(pairs: dict[str, tuple[bytes, bytes]]) -> None:
    assert len(pairs) > 3000
    assert [path for path, (debian, ours) in pairs.items() if debian and not ours] == []


def test_what_is_no_program_is_unchanged(pairs: dict[str, tuple[bytes, bytes]]) -> None:
    changed = [path for path, (debian, ours) in pairs.items() if not _is_elf(debian) and debian != ours]
    assert changed == []


def test_programs_and_libraries_keep_their_code(pairs: dict[str, tuple[bytes, bytes]]) -> None:
    elf = {path: pair for path, pair in pairs.items() if _is_elf(pair[0])}
    assert len(elf) > 500
    # The loader's search path is overwritten, so that it looks at nothing of the machine.
    changed = [path for path, (debian, ours) in elf.items() if _code(debian) != _code(ours)]
    assert [path for path in changed if not path.endswith(LOADER.removeprefix("usr/"))] == []


def test_programs_ask_for_the_bases_own_loader_and_libraries(
    base: Path, pairs: dict[str, tuple[bytes, bytes]]
) -> None:
    libraries, programs, astray = f"{base}/usr/lib/{TRIPLE}", 0, []
    for path, (debian, ours) in pairs.items():
        if not _is_elf(debian) or path.endswith((".o", ".a")):
            continue
        interpreter, rpath, needs = _dynamic(ours)
        asked, _, _ = _dynamic(debian)
        programs += asked is not None
        searched = (libraries,) if needs else (libraries, None)
        if interpreter != (f"{base}/{LOADER}" if asked else None) or rpath not in searched:
            astray.append(f"{path}: {interpreter}, {rpath}")
    assert programs > 200
    # The C library is a program too, and runs without its interpreter being asked.
    assert [each for each in astray if "libc.so.6" not in each] == []


def test_links_stay_within_the_base(base: Path) -> None:
    links = [path for path in base.rglob("*") if path.is_symlink()]
    assert len(links) > 100
    assert [f"{path}: {path.readlink()}" for path in links if not path.resolve().is_relative_to(base)] == []
