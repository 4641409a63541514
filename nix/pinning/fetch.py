"""Pinned files -> the store, by the machine's own package managers, several at a time."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from pinning import child, pip, seed, store
from pinning.apt import PrivateApt
from pinning.failure import UserError
from pinning.pins import DEBIAN_ARCHITECTURES, Pin, Seed
from pinning.progress import Progress

# One wheel of 500 MB takes as long as a hundred small ones: a batch ends at either limit.
BATCH_FILES = 24
BATCH_BYTES = 150_000_000
WORKERS = 4
# A file is copied into the store and unpacked there: all checks left 4.0 times what they had fetched.
STORE_FACTOR = 4
# pip and apt each keep a file twice for a moment.
SCRATCH_FACTOR = 2


def _batches(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Pins that are asked for together; no package twice, since pip brings one wheel for a name."""
    batches: list[list[Pin]] = []
    for pin in sorted(pins, key=lambda pin: -pin.size):
        for batch in batches[-2:]:  # a package's wheel for the other architecture goes into the other
            if _fits(pin, batch):
                batch.append(pin)
                break
        else:
            batches.append([pin])
    return batches


def _fits(pin: Pin, batch: list[Pin]) -> bool:
    return (
        len(batch) < BATCH_FILES
        and sum(each.size for each in batch) + pin.size <= BATCH_BYTES
        and all(each.name != pin.name for each in batch)
    )


def _verify(pin: Pin, path: Path | None) -> Path:
    """What a package manager downloaded for `pin`. Raises UserError where it is not the pinned file."""
    if path is None or not path.is_file():
        raise UserError(
            f"{pin.file}: the {pin.kind} archive answered but does not have this file: run this again, or "
            "use another mirror"
        )
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == pin.sha256:
            return path
    raise UserError(
        f"{pin.file}: the {pin.kind} archive's bytes do not match the pinned SHA-256: restore nix/pins with "
        "git, or use another mirror"
    )


def _add(found: dict[Pin, Path], progress: Progress) -> None:
    """Name and add verified files; each store path must be the one that the flake asks for."""
    named = [path.rename(path.parent / pin.store_name) for pin, path in found.items()]
    for pin, given in zip(found, store.add_fixed(named), strict=True):
        if given != pin.store_path:
            raise UserError(
                f"{pin.file}: nix put it at {given} and not at {pin.store_path}: please report this"
            )
        progress.done(pin.store_name, pin.size)


def _fetch_wheels(batch: list[Pin], progress: Progress, probe: Future[None] | None = None) -> None:
    """Fetch wheels, once `probe`, an earlier and smaller fetch, has shown that the index answers."""
    if probe:
        probe.result()
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
        pip.download(batch, Path(name), probe=probe is None)
        _add({pin: _verify(pin, Path(name) / pin.file) for pin in batch}, progress)


def _asked_of(pin: Pin) -> str:
    """The architecture whose index is asked for a package: any has those for all, so the first."""
    return next(iter(DEBIAN_ARCHITECTURES.values())) if pin.architecture == "all" else pin.architecture


def _download_debs(apt: PrivateApt, batch: list[Pin], directory: Path) -> dict[Pin, Path]:
    found = apt.download([(pin.name, pin.version) for pin in batch], directory)
    return {pin: _verify(pin, found.get((pin.name, pin.version))) for pin in batch}


def _add_seed(apt: PrivateApt, each: Seed, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
        package = _download_debs(apt, [each.package], Path(name))[each.package]
        unpacked = Path(name) / "seed" / each.store_name
        seed.unpack(package, unpacked)
        if store.nar_hash(unpacked) != each.sha256:
            raise UserError(
                f"{each.package.file}: its busybox is not the pinned one: restore nix/pins with git"
            )
        store.add_fixed([unpacked], recursive=True)
        progress.done(each.store_name, each.package.size)


def _fetch_debs(
    codename: str, architecture: str, pins: list[Pin], seeds: list[Seed], progress: Progress
) -> None:
    # The security archive's pool is not the main one's.
    files = [*pins, *(each.package for each in seeds)]
    security = any(pin.file.startswith("pool/updates/") for pin in files)
    with PrivateApt(codename, architecture, security=security, pinned=True) as apt:
        apt.update()
        for each in seeds:
            _add_seed(apt, each, progress)
        for batch in _batches(pins):
            with tempfile.TemporaryDirectory(prefix="dgx-vllm-") as name:
                _add(_download_debs(apt, batch, Path(name)), progress)


def _check_room(where: Path, needed: int, remedy: str) -> None:
    free = shutil.disk_usage(where).free
    if free < needed:
        raise UserError(
            f"{where} has {free / 1e9:.1f} GB free and this needs about {needed / 1e9:.1f} GB: "
            f"{remedy}, then run this again"
        )


def check_disk(pins: list[Pin]) -> None:
    """Refuse before the first byte where a disk cannot hold what is to come."""
    store_disk = next(path for path in (Path("/nix/store"), Path("/nix"), Path("/")) if path.exists())
    _check_room(
        store_disk,
        STORE_FACTOR * sum(pin.size for pin in pins),
        "make room (nix-collect-garbage frees what nothing uses)",
    )
    largest = sorted((sum(pin.size for pin in batch) for batch in _batches(pins)), reverse=True)
    _check_room(
        Path(tempfile.gettempdir()),
        SCRATCH_FACTOR * sum(largest[:WORKERS]),
        "make room, or set TMPDIR to a directory that has it",
    )


def _end(futures: list[Future[None]]) -> None:
    """End jobs, and the programs that they run."""
    for future in futures:
        future.cancel()
    # A job between two programs still starts the next.
    while not all(future.done() for future in futures):
        child.end_all()
        time.sleep(0.1)


def fetch(pins: list[Pin], seeds: list[Seed], codename: str) -> None:
    """Bring `pins` and `seeds` into the store. What has arrived stays: another call goes on from it.

    Raises UserError at the first file that cannot be had.
    """
    files = [*pins, *(each.package for each in seeds)]
    check_disk(files)
    progress = Progress(len(files), sum(pin.size for pin in files))
    jobs: list[Callable[[], None]] = []
    for system, architecture in DEBIAN_ARCHITECTURES.items():
        debs = [pin for pin in pins if pin.kind == "debian" and _asked_of(pin) == architecture]
        own_seeds = [each for each in seeds if each.system == system]
        if debs or own_seeds:
            jobs.append(partial(_fetch_debs, codename, architecture, debs, own_seeds, progress))
    wheels = sorted((pin for pin in pins if pin.kind == "pypi"), key=lambda pin: pin.size)
    futures: list[Future[None]] = []
    with ThreadPoolExecutor(WORKERS) as workers:
        try:
            futures += [workers.submit(job) for job in jobs]
            if wheels:
                probe = workers.submit(_fetch_wheels, wheels[:1], progress)
                futures.append(probe)
                futures += [
                    workers.submit(_fetch_wheels, batch, progress, probe) for batch in _batches(wheels[1:])
                ]
            pending = set(futures)
            while pending:
                # In short steps: a signal that the system hands to another thread does not wake this one.
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        finally:
            # Else a failure would be told when the last of the running downloads ends.
            _end(futures)
            progress.close()
