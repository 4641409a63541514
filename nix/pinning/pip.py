"""Exactly the pinned wheels, by the machine's own pip (its index, proxies and certificates)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pinning.failure import UserError
from pinning.pins import Pin


def _platforms(pins: list[Pin]) -> list[str]:
    tags = {tag for pin in pins for tag in pin.file.removesuffix(".whl").rsplit("-", 1)[-1].split(".")}
    return sorted(tags - {"any"})


def download(pins: list[Pin], directory: Path) -> None:
    """Download `pins` into `directory`. Raises UserError where the index does not answer or serves other
    bytes."""
    requirements = directory / "requirements.txt"
    requirements.write_text(
        "".join(f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in pins)
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar=off", "--no-input"]
    command += ["--implementation=cp", "--python-version=3.11", "--retries=5", "--timeout=60"]
    command += [f"--platform={platform}" for platform in _platforms(pins)]
    command += ["--dest", str(directory), "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    requirements.unlink()
    if not done.returncode:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        culprit = next((pin.file for pin in pins if pin.sha256 in done.stderr), pins[0].file)
        raise UserError(
            f"{culprit}: the index serves other bytes than the pinned SHA-256: "
            "restore nix/pins with git, or run update if you mean to change it"
        )
    said = next(
        (line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip()[-300:]
    )
    raise UserError(
        f"pip could not download {pins[0].file}{' and others' if pins[1:] else ''}: {said}; run this again"
    )
