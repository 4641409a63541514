"""Build every derivation below the given ones a second time and compare.

usage: rebuild.py DRV...

A derivation that downloads (a fixed output) is left out: its hash is its check. Prints a table; exits 1 where
the second build differs, and names it.
"""

from __future__ import annotations

import subprocess
import sys
import time

from rich.console import Console
from rich.progress import track
from rich.table import Table

console = Console(width=None if sys.stdout.isatty() else 110)


def _ours(drvs: list[str]) -> list[str]:
    """The derivations of the closure that are built and not fetched, those that others need first."""
    listing = subprocess.run(
        ["nix-store", "--query", "--requisites", *drvs], check=True, capture_output=True, text=True
    ).stdout
    found = [path for path in listing.split() if path.endswith(".drv")]
    return [path for path in found if '("outputHash",' not in open(path, encoding="utf-8").read()]


def main(drvs: list[str]) -> int:
    ours = _ours(drvs)
    different = []
    start = time.monotonic()
    for drv in track(ours, "building again", console=console):
        done = subprocess.run(["nix-store", "--realise", "--check", drv], capture_output=True, text=True)
        if done.returncode:
            different.append((drv, done.stderr.strip().splitlines()[-1]))
    table = Table("derivations", "identical", "different", "seconds")
    table.add_row(
        str(len(ours)),
        str(len(ours) - len(different)),
        str(len(different)),
        f"{time.monotonic() - start:.0f}",
    )
    console.print(table)
    for drv, said in different:
        console.print(f"{drv}: {said}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
