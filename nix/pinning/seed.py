"""The seed: busybox out of its package, the one program there is before anything can be unpacked in a
build."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def unpack(package: Path, directory: Path) -> None:
    """Put the package's busybox, and nothing else, at `directory/bin/busybox`."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["dpkg-deb", "--extract", str(package), name], check=True)
        (directory / "bin").mkdir(parents=True)
        target = directory / "bin/busybox"
        target.write_bytes((Path(name) / "bin/busybox").read_bytes())
        target.chmod(0o555)
