"""The Nix store as fixed outputs see it: a path is a function of a name and a hash, and of nothing else."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pinning.failure import UserError, remedy

STORE = "/nix/store"
_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"  # Nix's base 32: no e, o, t, u


def _base32(digest: bytes) -> str:
    number = int.from_bytes(digest, "little")
    length = (len(digest) * 8 + 4) // 5
    return "".join(_ALPHABET[(number >> (5 * i)) & 31] for i in reversed(range(length)))


def _store_path(kind: str, sha256: str, name: str) -> str:
    digest = hashlib.sha256(f"{kind}:sha256:{sha256}:{STORE}:{name}".encode()).digest()
    folded = bytearray(20)
    for i, byte in enumerate(digest):
        folded[i % 20] ^= byte
    return f"{STORE}/{_base32(bytes(folded))}-{name}"


def fixed_output_path(name: str, sha256: str, *, recursive: bool = False) -> str:
    """Where Nix expects a fixed output (Nix manual, "Store path specification").

    `sha256` is in base 16: of the file, or with `recursive` of the NAR.
    """
    if recursive:
        return _store_path("source", sha256, name)
    inner = hashlib.sha256(f"fixed:out:sha256:{sha256}:".encode()).hexdigest()
    return _store_path("output:out", inner, name)


def _nix(*command: str) -> str:
    """Run one of Nix's programs; returns its standard output. Raises UserError with Nix's words."""
    try:
        # Out of Ctrl-C's reach and never ended early: what it adds to the store is added whole.
        done = subprocess.run(command, capture_output=True, text=True, process_group=0)
    except FileNotFoundError as error:
        raise UserError(f"this machine has no {command[0]}: install Nix, then run this again") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        said = lines[-1].removeprefix("error: ")
        raise UserError(f"{' '.join(command[:2])}: {said}; {remedy(done.stderr)}")
    return done.stdout


def add_fixed(paths: list[Path], *, recursive: bool = False) -> list[str]:
    """Add files, or with `recursive` directories, as fixed outputs; returns their store paths in order.

    Raises UserError where Nix would not take them.
    """
    options = ["--recursive"] if recursive else []
    return _nix("nix-store", "--add-fixed", *options, "sha256", *map(str, paths)).split()


def nar_hash(path: Path) -> str:
    """The SHA-256 of a directory's NAR, in base 16. Raises UserError where Nix cannot say."""
    return _nix("nix-hash", "--type", "sha256", str(path)).strip()


def outputs(drvs: list[str]) -> set[str]:
    """The store paths of derivations' outputs. Raises UserError where Nix cannot say."""
    return set(_nix("nix-store", "--query", "--outputs", *drvs).split()) if drvs else set()


def missing(paths: Iterable[str]) -> set[str]:
    """Those of `paths` that the store does not hold as valid paths. Raises UserError where Nix cannot say."""
    wanted = list(paths)
    return set(_nix("nix-store", "--check-validity", "--print-invalid", *wanted).split()) if wanted else set()
