"""One wheel -> one store path: `unpack.py WHEEL OUT`, by PyPA's installer, with bytecode.

Environment: PATCHELF, and LOADER and LIBRARIES of the sysroot that the wheel's executables are to run on.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

# Environments put their own interpreter here (environment.py).
INTERPRETER = "/usr/bin/python3.11"
SITE_PACKAGES = "lib/python3.11/site-packages"


def is_executable(path: Path) -> bool:
    """Whether an ELF file asks for a loader: a program, not a library."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return False
    command = [os.environ["PATCHELF"], "--print-interpreter", str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


def relocate(path: Path) -> None:
    """Point a program at the sysroot's loader, and let it find its system libraries after its own."""
    patchelf = os.environ["PATCHELF"]
    own = subprocess.run(
        [patchelf, "--print-rpath", str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    rpath = ":".join(filter(None, [own, os.environ["LIBRARIES"]]))
    path.chmod(0o755)
    loader = ["--set-interpreter", os.environ["LOADER"]]
    subprocess.run([patchelf, *loader, "--force-rpath", "--set-rpath", rpath, str(path)], check=True)


def main(wheel: Path, out: Path) -> None:
    site = out / SITE_PACKAGES
    scheme = {"purelib": str(site), "platlib": str(site), "scripts": str(out / "bin")}
    scheme |= {"data": str(out), "headers": str(out / "include")}
    # The archive, or a directory that holds it (one built here). Its name is read for name and version, so a
    # store path's hash must not stand before it.
    archive = next(wheel.glob("*.whl")) if wheel.is_dir() else wheel
    named = Path.cwd() / (archive.name if wheel.is_dir() else archive.name.partition("-")[2])
    named.symlink_to(archive)
    with WheelFile.open(named) as source:
        install(
            source,
            SchemeDictionaryDestination(scheme, interpreter=INTERPRETER, script_kind="posix"),
            additional_metadata={"INSTALLER": b"dgx-vllm\n"},
        )
    for path in out.rglob("*"):
        regular = path.is_file() and not path.is_symlink()
        if regular and path.suffix not in (".py", ".pyc") and is_executable(path):
            relocate(path)
    # Store paths all carry one time stamp, so bytecode is trusted by its being there. Some wheels ship files
    # that are no valid Python 3.11 (templates, newer syntax): those have no bytecode.
    compileall.compile_dir(
        site, quiet=2, stripdir=str(out), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
