"""`dgx-vllm download`: brings a model into the cache, or says why it cannot be brought."""

import json
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgx_vllm.checkpoints import checkpoint, draft_model, file_formats, speculators
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.host import caches, disk_space, machine
from dgx_vllm.host.machine import Platform
from dgx_vllm.hub import import_environment
from dgx_vllm.hub.cache_folder import Storage
from dgx_vllm.profiles import profile
from dgx_vllm.util import sigterm
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say

_CONFIG = "speculative-config"
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
    speculative_config: str | None = None,
) -> None:
    """Downloads a model, continuing what is here of it, and says where it is.

    The draft model comes too. So does the model that a speculators repository drafts for.

    Args:
        model: a Hugging Face id or a profile's name; what lies on disk already is left as it is.
        environ: the process's environment; huggingface_hub's variables are added to it.
        revision: a branch, tag or commit; by default the profile's, else `main`.
        if_missing: leave a whole model as it is, without asking whether there is a newer one.
        sleep: waits that many seconds.
        clock: seconds.
        reading: how vLLM will be told to read it.
        speculative_config: what vLLM will be told of drafts, in JSON; by default as the profile says.

    Raises:
        UserError: it cannot be downloaded; status 2 if trying again is of no use, else 1.
    """
    known = profile.by_model(model)
    argument = known.argument if known else model
    if file_formats.is_gguf(argument):
        raise UserError(f"{argument}: {file_formats.NO_GGUF}")
    if checkpoint.looks_like_path(argument) and not Path(argument).expanduser().exists():
        raise UserError(f"{model} does not exist; give a Hugging Face id such as owner/name")
    drafter = (
        profile_drafter(model)
        if speculative_config is None
        else draft_model.read(_fields(speculative_config), argument)
    )
    is_local = not _is_on_hub(argument)
    if is_local:
        print(f"dgx-vllm: {model} is not on the Hugging Face hub: nothing to download")
        if drafter is None:
            return
    import_environment.prepare(environ)
    pinned = revision or (known.values(_platform()).get("revision") if known else None)
    order = _Order(
        caches.hub(environ), pinned if isinstance(pinned, str) else _MAIN, if_missing, sleep, clock
    )
    with sigterm.on_sigterm(_STOPPED):
        if not is_local:
            _bring(order, argument, reading)
        if drafter:
            _bring_drafter(order, argument, drafter, reading)


def _is_on_hub(name: str) -> bool:
    return "://" not in name and not checkpoint.looks_like_path(name)


def _platform() -> Platform:
    try:
        return machine.vllm_build().platform
    except UserError:
        return "cuda"  # a model can be fetched before vLLM is here


def profile_drafter(model: str) -> DraftModel | None:
    """The draft model of a model's built-in profile, by the model's Hugging Face id or the profile's name."""
    known = profile.by_model(model)
    if known is None:
        return None
    return draft_model.read(known.values(_platform()).get(_CONFIG), known.argument)


def _fields(speculative_config: str) -> Any:
    try:
        fields = json.loads(speculative_config)
    except ValueError:
        fields = speculative_config
    if fields is not None and not isinstance(fields, dict):
        raise UserError(
            f'--{_CONFIG} must be a JSON object such as {{"model": "owner/name"}}, or null for no drafts, '
            f"not {speculative_config}"
        )
    return fields


@dataclass(frozen=True)
class _Order:
    """What holds for everything that one command downloads; see `download`."""

    cache: Path
    revision: str
    if_missing: bool
    sleep: Callable[[float], None]
    clock: Callable[[], float]


def _bring_drafter(order: _Order, model: str, drafter: DraftModel, reading: Reading) -> None:
    if not _is_on_hub(drafter.name):
        print(f"dgx-vllm: {drafter.name} drafts for {model} and is not on the Hugging Face hub")
        return
    revision = drafter.revision or _MAIN
    say(f"{drafter.name} at {revision} drafts for {model}, and comes with it")
    _bring(replace(order, revision=revision), drafter.name, _without_mistral(reading))


def _without_mistral(reading: Reading) -> Reading:
    """Without the hub vLLM finds Mistral's own format of the model that is named alone."""
    return replace(reading, load_format="hf") if reading == AUTO else reading


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
    # vLLM gives its revision to both.
    _bring(order, speculator.verifier, _without_mistral(reading))


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
