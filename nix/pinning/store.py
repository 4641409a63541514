"""The Nix store as fixed outputs see it: a path is a function of a name and a hash, and of nothing else."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pinning.failure import UserError

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


def add_fixed(paths: list[Path], *, recursive: bool = False) -> list[str]:
    """Add files, or with `recursive` directories, as fixed outputs; returns their store paths in order."""
    command = [
        "nix-store",
        "--add-fixed",
        *(["--recursive"] if recursive else []),
        "sha256",
        *map(str, paths),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"nix-store would not take {paths[0].name}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.split()


def missing(paths: Iterable[str]) -> set[str]:
    """Those of `paths` that the store does not hold as valid paths."""
    wanted = list(paths)
    if not wanted:
        return set()
    command = ["nix-store", "--check-validity", "--print-invalid", *wanted]
    return set(subprocess.run(command, capture_output=True, text=True).stdout.split())
