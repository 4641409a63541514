"""`dgx-vllm download`: brings a model into the cache, or says why it cannot be brought."""

import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

from dgx_vllm import caches, checkpoint, profile
from dgx_vllm.download import ending, environment, room
from dgx_vllm.download.progress import say
from dgx_vllm.download.storage import Storage
from dgx_vllm.errors import UserError
from dgx_vllm.plan.units import gb

_STOPPED = "dgx-vllm: stopped by SIGTERM; what came is kept, and the same command goes on from there"


def download(
    model: str,
    environ: MutableMapping[str, str],
    revision: str | None = None,
    if_missing: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Downloads a model, continuing what is here of it, and says where it is.

    Args:
        model: a Hugging Face id or a profile's name; what lies on disk already is left as it is.
        environ: the process's environment; huggingface_hub's variables are added to it.
        revision: a branch, tag or commit; by default `main`.
        if_missing: leave a whole model as it is, without asking whether there is a newer one.
        sleep: waits that many seconds.
        clock: seconds.

    Raises:
        UserError: it cannot be downloaded; status 2 if trying again is of no use, else 1.
    """
    known = profile.by_model(model)
    argument = known.argument if known else model
    if checkpoint.looks_like_path(argument) and not Path(argument).expanduser().exists():
        raise UserError(f"there is nothing at {model}; give a Hugging Face id such as owner/name")
    if "://" in argument or checkpoint.looks_like_path(argument):
        print(f"dgx-vllm: {model} is not on the Hugging Face hub: nothing to download")
        return
    environment.prepare(environ)
    storage = Storage(caches.hub(environ), argument)
    here = _whole(storage, revision or "main") if if_missing else None
    if here:
        print(f"dgx-vllm: {model} is here, whole as far as its index says: {here}")
        return
    with ending.on_sigterm(_STOPPED):
        _deliver(storage, revision or "main", sleep, clock)


def _deliver(
    storage: Storage, revision: str, sleep: Callable[[float], None], clock: Callable[[], float]
) -> None:
    # huggingface_hub reads the environment when it is imported.
    from dgx_vllm.download import faults, hub
    from dgx_vllm.download.delivery import Delivery
    from dgx_vllm.download.listing import Listing

    def ask() -> Listing | Path:
        try:
            return hub.listing(storage.model, revision)
        except faults.REMOTE as error:
            here = None if faults.is_refusal(error) else _whole(storage, revision)
            if here is None:
                raise
            # A server whose model is here must not wait for a network that is not.
            say(f"the hub cannot be asked ({faults.cause(error)})")
            return here

    delivery = Delivery(storage, revision, sleep, clock)
    found = delivery.persist(ask)
    if isinstance(found, Path):
        print(f"dgx-vllm: {storage.model} is here, whole as far as its index says: {found}")
        return
    missing = storage.missing(found)
    room.check(storage.cache, missing, storage.model)
    if missing:
        say(f"{storage.model}: {gb(missing)} of {gb(found.size)} to download into {storage.cache}")
        if hub.uses_xet():
            say("HF_HUB_DISABLE_XET says to use Xet: files that break off start over, and no speed is told")
    delivery.complete(found)
    where = storage.snapshot(found.commit)
    print(f"dgx-vllm: {storage.model} is here: {len(found.files)} files, {gb(found.size)}, in {where}")


def _whole(storage: Storage, revision: str) -> Path | None:
    """The snapshot of a revision whose index, weights and configs are all here."""
    found = checkpoint.snapshot(storage.model, storage.cache, revision)
    if found is None:
        return None
    try:
        checkpoint.check(str(found))
    except UserError:
        return None
    return found
