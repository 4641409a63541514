"""Pinned files -> the store, by the machine's own package managers, several at a time."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from pinning import pip, seed, store
from pinning.apt import PrivateApt
from pinning.failure import UserError
from pinning.pins import DEBIAN_ARCHITECTURES, Pin, Seed
from pinning.progress import Progress

# One wheel of 500 MB takes as long as a hundred small ones: a batch ends at either limit.
BATCH_FILES = 24
BATCH_BYTES = 150_000_000
WORKERS = 4
# A file is downloaded, copied into the store and unpacked there; with room to spare, an estimate.
DISK_FACTOR = 4


def _batches(pins: Iterable[Pin]) -> list[list[Pin]]:
    batches: list[list[Pin]] = [[]]
    size = 0
    for pin in sorted(pins, key=lambda pin: -pin.size):
        if batches[-1] and (size + pin.size > BATCH_BYTES or len(batches[-1]) == BATCH_FILES):
            batches.append([])
            size = 0
        batches[-1].append(pin)
        size += pin.size
    return [batch for batch in batches if batch]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(found: dict[Pin, Path], progress: Progress) -> None:
    """Verify, name and add downloaded files; each store path must be the one that the flake asks for."""
    named = {}
    for pin, path in found.items():
        if _sha256(path) != pin.sha256:
            raise UserError(
                f"{pin.file}: the {pin.kind} archive serves other bytes than the pinned SHA-256: "
                "restore nix/pins with git"
            )
        named[pin] = path.rename(path.parent / pin.store_name)
    for pin, path in zip(named, store.add_fixed(list(named.values())), strict=True):
        if path != pin.store_path:
            raise UserError(
                f"{pin.file}: nix put it at {path} and not at {pin.store_path}: please report this"
            )
        progress.done(pin.store_name, pin.size)


def _fetch_wheels(batch: list[Pin], progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
        pip.download(batch, Path(name))
        _add({pin: Path(name) / pin.file for pin in batch}, progress)


def _asked_of(pin: Pin) -> str:
    """The architecture whose index is asked for a package: any has those for all, so the first."""
    return next(iter(DEBIAN_ARCHITECTURES.values())) if pin.architecture == "all" else pin.architecture


def _fetch_debs(
    codename: str, architecture: str, pins: list[Pin], seeds: list[Seed], progress: Progress
) -> None:
    wanted = {pin.file: pin for pin in [*pins, *(each.package for each in seeds)]}
    # The security archive's pool is not the main one's.
    security = any(pin.file.startswith("pool/updates/") for pin in wanted.values())
    with (
        PrivateApt(codename, architecture, security=security) as apt,
        tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name,
    ):
        directory = Path(name)
        apt.update()
        apt.download([(pin.name, pin.version) for pin in wanted.values()], directory)
        # apt writes an epoch's colon as %3a and may name the file by another architecture than the pool does.
        found = {path.name.partition("_")[0]: path for path in directory.glob("*.deb")}
        for each in seeds:
            unpacked = directory / "seed" / each.store_name
            seed.unpack(found[each.package.name], unpacked)
            if store.add_fixed([unpacked], recursive=True) != [each.store_path]:
                raise UserError(
                    f"{each.package.file}: its busybox is not the pinned one: restore nix/pins with git"
                )
            progress.done(each.store_name, each.package.size)
        if pins:
            _add({pin: found[pin.name] for pin in pins}, progress)


def check_disk(total_bytes: int) -> None:
    """Refuse before the first byte where the store's disk cannot hold what is to come."""
    where = next(path for path in (Path("/nix/store"), Path("/nix"), Path("/")) if path.exists())
    free, needed = shutil.disk_usage(where).free, DISK_FACTOR * total_bytes
    if free < needed:
        raise UserError(
            f"{where} has {free / 1e9:.1f} GB free and this needs about {needed / 1e9:.1f} GB: "
            "make room (nix-collect-garbage frees what nothing uses) and run this again"
        )


def fetch(pins: list[Pin], seeds: list[Seed], codename: str) -> None:
    """Bring `pins` and `seeds` into the store. What has arrived stays: another call goes on from it."""
    files = [*pins, *(each.package for each in seeds)]
    total = sum(pin.size for pin in files)
    check_disk(total)
    progress = Progress(len(files), total)
    jobs: list[Callable[[], None]] = []
    for system, architecture in DEBIAN_ARCHITECTURES.items():
        debs = [pin for pin in pins if pin.kind == "debian" and _asked_of(pin) == architecture]
        own_seeds = [each for each in seeds if each.system == system]
        if debs or own_seeds:
            jobs.append(lambda a=architecture, d=debs, s=own_seeds: _fetch_debs(codename, a, d, s, progress))
    jobs += [
        lambda b=batch: _fetch_wheels(b, progress)
        for batch in _batches(pin for pin in pins if pin.kind == "pypi")
    ]
    with ThreadPoolExecutor(WORKERS) as workers:
        futures: list[Future[None]] = [workers.submit(job) for job in jobs]
        finished, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in finished:
            future.result()
