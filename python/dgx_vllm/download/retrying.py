"""Delivery: from a listing to a whole snapshot, whatever the network does."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from huggingface_hub.utils import WeakFileLock

from dgx_vllm.download import digest, transfer
from dgx_vllm.download.backoff import ATTEMPTS, Patience
from dgx_vllm.host import disk_space
from dgx_vllm.hub import client, faults
from dgx_vllm.hub.cache_folder import Storage
from dgx_vllm.hub.listing import File, Listing
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say
from dgx_vllm.util.progress_lines import Progress, duration

T = TypeVar("T")


@dataclass
class Delivery:
    """One model on its way into the cache.

    Args:
        storage: where it goes.
        revision: which of its branches, tags or commits.
        sleep: waits that many seconds.
        clock: seconds.
    """

    storage: Storage
    revision: str
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _patience: Patience = field(default_factory=Patience)

    def persist(self, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Repeats an attempt until it succeeds, with growing waits while it brings nothing new.

        Args:
            attempt: what may fail.
            reached: bytes that are here, asked after each failure.

        Raises:
            UserError: it is the user's to mend, the disk is full, or `backoff.ATTEMPTS` brought nothing.
        """
        model = self.storage.model
        most = reached()
        while True:
            try:
                result = attempt()
            except faults.REMOTE as error:
                refusal = faults.lasting(error, model, self.revision)
                if refusal:
                    raise refusal from error
                reach = reached()
                wait = self._patience.after(reach > most and not isinstance(error, faults.StalledError))
                most = max(most, reach)
                if wait is None:
                    raise UserError(
                        f"{model}: {ATTEMPTS} attempts in a row made no progress, the last one: "
                        f"{faults.cause(error)}; the data so far is kept; fix the network and run this again",
                        FAILURE,
                    ) from error
                fruitless = f"{self._patience.failures} of {ATTEMPTS} attempts made no progress"
                say(f"{faults.cause(error)}; again in {duration(wait)} ({fruitless})")
                self.sleep(wait)
            except OSError as error:
                raise disk_space.fault(error, self.storage.cache, model) from error
            else:
                self._patience.restore()
                return result

    def complete(self, listing: Listing) -> None:
        """Downloads what is missing, checks it and makes the snapshot.

        Raises:
            UserError: as `persist`, or a file does not come as the hub describes it.
        """
        total = listing.size
        done = total - self.storage.missing(listing)
        progress = Progress(total, done, self.clock)
        for file in listing.blobs:
            if self.storage.holds(file, listing.commit):
                continue
            size = self.storage.partial(file)
            before = done - size
            self._bring(listing, file, partial(_tell, progress, before))
            done = before + file.size
        for file in listing.files:
            self._place(listing, file)
        try:
            self.storage.record(self.revision, listing.commit)
        except OSError as error:
            raise disk_space.fault(error, self.storage.cache, listing.model) from error

    def _bring(self, listing: Listing, file: File, arrived: Callable[[int], None]) -> None:
        """A file whose digest is right; one that is not gets a second chance, from its first byte."""
        fetch = self._by_xet if client.uses_xet() else self._by_http
        for last in (False, True):
            if fetch(listing, file, arrived):
                return
            if not last:
                say(f"{file.name} does not match the hub's description; fetching it again")
        raise UserError(
            f"{file.name} of {listing.model} arrived twice with a hash that differs from the hub's; check "
            "for a proxy or a disk that changes data, then run this again",
            FAILURE,
        )

    def _by_http(self, listing: Listing, file: File, arrived: Callable[[int], None]) -> bool:
        storage = self.storage
        part, blob, lock = storage.part(file), storage.blob(file), storage.lock(file)

        def attempt() -> bool:
            part.parent.mkdir(parents=True, exist_ok=True)
            lock.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(lock):
                if storage.holds(file, listing.commit):
                    return True  # another process brought it
                transfer.resume(listing, file, part, arrived)
                if not digest.matches(part, file):
                    part.unlink()
                    return False
                with part.open("rb+") as whole:
                    os.fsync(whole)
                part.replace(blob)
                return True

        return self.persist(attempt, lambda: storage.partial(file))

    def _by_xet(self, listing: Listing, file: File, arrived: Callable[[int], None]) -> bool:
        """Nothing of an attempt that broke off can be kept, and nothing is heard of it before its end."""
        self.storage.discard(file, listing.commit)
        self.persist(lambda: client.place(listing, file, self.storage))
        arrived(file.size)
        try:
            if digest.matches(self.storage.snapshot(listing.commit) / file.name, file):
                return True
            self.storage.discard(file, listing.commit)
        except OSError as error:
            raise disk_space.fault(error, self.storage.cache, listing.model) from error
        return False

    def _place(self, listing: Listing, file: File) -> None:
        placed = self.storage.snapshot(listing.commit) / file.name
        if not self._is_placed(listing, file):
            placed.unlink(missing_ok=True)
            self.persist(lambda: client.place(listing, file, self.storage))
        if not self._is_placed(listing, file):
            raise UserError(
                f"{placed} does not have the {file.size} bytes that the hub states; remove it and run this "
                "again",
                FAILURE,
            )

    def _is_placed(self, listing: Listing, file: File) -> bool:
        placed = self.storage.snapshot(listing.commit) / file.name
        return placed.exists() and placed.stat().st_size == file.size


def _tell(progress: Progress, before: int, size: int) -> None:
    progress.at(before + size)
