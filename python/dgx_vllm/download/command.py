"""`dgx-vllm download`: brings a model into the cache, or says why it cannot be brought."""

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from dgx_vllm.checkpoints import checkpoint, file_formats, speculators
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.host import caches, disk_space
from dgx_vllm.hub import import_environment
from dgx_vllm.hub.cache_folder import Storage
from dgx_vllm.profiles import profile
from dgx_vllm.util import sigterm
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say

_MAIN = "main"
_STOPPED = "dgx-vllm: stopped by SIGTERM; the data so far is kept, and the same command resumes from there"


def download(
    model: str,
    environ: MutableMapping[str, str],
    revision: str | None = None,
    if_missing: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    reading: Reading = AUTO,
) -> None:
    """Downloads a model, continuing what is here of it, and says where it is.

    Of a speculators repository, the model that it drafts for comes too.

    Args:
        model: a Hugging Face id or a profile's name; what lies on disk already is left as it is.
        environ: the process's environment; huggingface_hub's variables are added to it.
        revision: a branch, tag or commit; by default `main`.
        if_missing: leave a whole model as it is, without asking whether there is a newer one.
        sleep: waits that many seconds.
        clock: seconds.
        reading: how vLLM will be told to read it.

    Raises:
        UserError: it cannot be downloaded; status 2 if trying again is of no use, else 1.
    """
    known = profile.by_model(model)
    argument = known.argument if known else model
    if file_formats.is_gguf(argument):
        raise UserError(f"{argument}: {file_formats.NO_GGUF}")
    if checkpoint.looks_like_path(argument) and not Path(argument).expanduser().exists():
        raise UserError(f"{model} does not exist; give a Hugging Face id such as owner/name")
    if "://" in argument or checkpoint.looks_like_path(argument):
        print(f"dgx-vllm: {model} is not on the Hugging Face hub: nothing to download")
        return
    import_environment.prepare(environ)
    order = _Order(caches.hub(environ), revision or _MAIN, if_missing, sleep, clock)
    with sigterm.on_sigterm(_STOPPED):
        _bring(order, argument, reading)


@dataclass(frozen=True)
class _Order:
    """What holds for everything that one command downloads; see `download`."""

    cache: Path
    revision: str
    if_missing: bool
    sleep: Callable[[float], None]
    clock: Callable[[], float]


def _bring(order: _Order, model: str, reading: Reading) -> None:
    storage = Storage(order.cache, model)
    directory = _whole(storage, order.revision, reading) if order.if_missing else None
    if directory:
        print(f"dgx-vllm: {model} is already downloaded, complete according to its index: {directory}")
    else:
        directory = _deliver(order, storage, reading)
    config = checkpoint.config_file(directory)
    speculator = speculators.read(model, checkpoint.config_of(config)) if config else None
    if speculator is None:
        return
    if checkpoint.looks_like_path(speculator.verifier):
        print(f"dgx-vllm: {model} drafts for {speculator.verifier}, which is not on the Hugging Face hub")
        return
    say(f"{model} drafts for {speculator.verifier}, which is served with it")
    # vLLM gives its revision to both, and without the hub it does not find Mistral's own format of the other.
    _bring(order, speculator.verifier, replace(reading, load_format="hf") if reading == AUTO else reading)


def _deliver(order: _Order, storage: Storage, reading: Reading) -> Path:
    # huggingface_hub reads the environment when it is imported.
    from dgx_vllm.download.retrying import Delivery
    from dgx_vllm.hub import client, faults
    from dgx_vllm.hub.listing import Listing

    revision = order.revision

    def ask() -> Listing | Path:
        try:
            return client.listing(storage.model, revision, reading)
        except faults.REMOTE as error:
            directory = None if faults.is_refusal(error) else _whole(storage, revision, reading)
            if directory is None:
                other = checkpoint.other_commit(storage.model, storage.cache, revision)
                if other and faults.is_offline(error):
                    raise UserError(f"{faults.offline(storage.model)}{other}", FAILURE) from error
                raise
            # A server whose model is here must not wait for a network that is not.
            say(f"the hub cannot be asked ({faults.cause(error)})")
            return directory

    delivery = Delivery(storage, revision, order.sleep, order.clock)
    listing = delivery.persist(ask)
    if isinstance(listing, Path):
        print(f"dgx-vllm: {storage.model} is already downloaded, complete according to its index: {listing}")
        return listing
    missing = storage.missing(listing)
    disk_space.check(
        storage.cache,
        missing,
        f"downloading {storage.model}",
        disk_space.DOWNLOAD.place,
        disk_space.MARGIN,
    )
    if missing:
        say(f"{storage.model}: {gb(missing)} of {gb(listing.size)} to download into {storage.cache}")
        if client.uses_xet():
            say("HF_HUB_DISABLE_XET enables Xet: interrupted files start over, and no speed is shown")
    delivery.complete(listing)
    where = storage.snapshot(listing.commit)
    print(f"dgx-vllm: {storage.model} is here: {len(listing.files)} files, {gb(listing.size)}, in {where}")
    return where


def _whole(storage: Storage, revision: str, reading: Reading) -> Path | None:
    """The snapshot of a revision whose index, weights and configs are all here."""
    return checkpoint.whole(storage.model, storage.cache, revision, reading)
