"""Add what Docker asks of an image beyond OCI to the one image of a layout: `docker.py LAYOUT NAME`.

- Its health check: OCI's configuration has no field for it and umoci none either; Docker reads its own from
  the same file (Docker Image Specification 1.3, "Healthcheck"; times in nanoseconds).
- `manifest.json`, the table of contents that `docker load` reads where it does not keep images in containerd.
- The name: containerd reads it from an annotation of the index, the others from `manifest.json`.
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


def _blob(descriptor: dict[str, Any]) -> str:
    return f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"


def _replace(layout: Path, descriptor: dict[str, Any], content: dict[str, Any]) -> None:
    """Write `content` as a blob, drop the one that `descriptor` names and point it at the new one."""
    encoded = json.dumps(content, separators=(",", ":")).encode()
    (layout / _blob(descriptor)).unlink()
    descriptor |= {"digest": f"sha256:{hashlib.sha256(encoded).hexdigest()}", "size": len(encoded)}
    (layout / _blob(descriptor)).write_bytes(encoded)


def main(layout: Path, name: str) -> None:
    def load(descriptor: dict[str, Any]) -> Any:
        return json.loads((layout / _blob(descriptor)).read_text())

    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]
    manifest = load(entry)
    config = load(manifest["config"])
    config["config"]["Healthcheck"] = HEALTHCHECK
    _replace(layout, manifest["config"], config)
    _replace(layout, entry, manifest)
    entry["annotations"] = entry.get("annotations", {}) | {
        "io.containerd.image.name": f"docker.io/library/{name}"
    }
    (layout / "index.json").write_text(json.dumps(index))
    contents = {
        "Config": _blob(manifest["config"]),
        "RepoTags": [name],
        "Layers": [_blob(each) for each in manifest["layers"]],
    }
    (layout / "manifest.json").write_text(json.dumps([contents]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
