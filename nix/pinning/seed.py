"""The seed: busybox out of its package, which unpacks everything else in a build."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pinning import child
from pinning.failure import UserError, remedy


def unpack(package: Path, directory: Path) -> None:
    """Put the package's busybox, and nothing else, at `directory/bin/busybox`.

    Raises UserError where the package cannot be unpacked.
    """
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
        done = child.run(["dpkg-deb", "--extract", str(package), name])
        busybox = Path(name) / "bin/busybox"
        if done.returncode or not busybox.is_file():
            said = done.stderr.strip() or "it holds no bin/busybox"
            raise UserError(f"{package.name} cannot be unpacked ({said}): {remedy(said)}")
        (directory / "bin").mkdir(parents=True)
        target = directory / "bin/busybox"
        target.write_bytes(busybox.read_bytes())
        target.chmod(0o555)
