"""Add Docker's health check to the one image of an OCI layout: `healthcheck.py LAYOUT`.

OCI's configuration has no field for it and umoci none either; Docker and Podman read theirs from the same
file (Docker Image Specification 1.3, "Healthcheck"; times in nanoseconds).
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

SECOND = 1_000_000_000
HEALTHCHECK = {
    "Test": ["CMD", "/bin/entrypoint", "health"],
    "Interval": 30 * SECOND,
    "Timeout": 10 * SECOND,
    # A model of 40 GB takes minutes to load, after minutes or hours of download.
    "StartPeriod": 3600 * SECOND,
    "Retries": 3,
}


def _replace(layout: Path, descriptor: dict[str, Any], content: dict[str, Any]) -> None:
    """Write `content` as a blob, drop the one that `descriptor` names and point it at the new one."""
    blobs = layout / "blobs/sha256"
    encoded = json.dumps(content, separators=(",", ":")).encode()
    digest = hashlib.sha256(encoded).hexdigest()
    (blobs / descriptor["digest"].removeprefix("sha256:")).unlink()
    (blobs / digest).write_bytes(encoded)
    descriptor |= {"digest": f"sha256:{digest}", "size": len(encoded)}


def main(layout: Path) -> None:
    def load(descriptor: dict[str, Any]) -> Any:
        digest = descriptor["digest"].removeprefix("sha256:")
        return json.loads((layout / "blobs/sha256" / digest).read_text())

    index = json.loads((layout / "index.json").read_text())
    manifest = load(index["manifests"][0])
    config = load(manifest["config"])
    config["config"]["Healthcheck"] = HEALTHCHECK
    _replace(layout, manifest["config"], config)
    _replace(layout, index["manifests"][0], manifest)
    (layout / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
