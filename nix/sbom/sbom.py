"""`python -m sbom.sbom MANIFEST OUT`: write the bill of materials of the product that MANIFEST describes."""

from __future__ import annotations

import sys
from pathlib import Path

from sbom import bom, manifest, tables


def main(source: Path, out: Path) -> None:
    try:
        document = bom.make(manifest.read(source), tables.read())
    except bom.UnknownLicenceError as unknown:
        sys.exit(
            f"error: no licence is known of these: say one in nix/sbom/*.toml, with its reason\n{unknown}"
        )
    out.write_text(document)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
