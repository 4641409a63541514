"""`dgx-vllm list` and `dgx-vllm rm`."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from dgx_vllm.checkpoints import hf_cache
from dgx_vllm.checkpoints.hf_cache import CachedModel
from dgx_vllm.host import caches
from dgx_vllm.models import inventory
from dgx_vllm.models.inventory import Model
from dgx_vllm.profiles import profile
from dgx_vllm.running import servers
from dgx_vllm.running.report import duration
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say
from dgx_vllm.vllm_flags.flags import nearest

Found = tuple[Model, CachedModel]


def list_models(environ: Mapping[str, str], *, cache: Path | None, as_json: bool) -> None:
    """Lists the downloaded models, of this user and of services.

    Args:
        environ: the process's environment.
        cache: look into this Hugging Face cache alone.
        as_json: an array of `shelf.Model` instead of a table.
    """
    by_cache = _models_by_cache(environ, cache)
    if as_json:
        rows = [model for cached in by_cache.values() for model, _ in cached]
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    any_shown = False
    for hub, cached in by_cache.items():
        if cached:
            if any_shown:
                print()
            any_shown = True
            print(f"{hub}: {gb(hf_cache.size(hub))} in {len(cached)} model{'s' if len(cached) > 1 else ''}")
            _table([model for model, _ in cached])
    if not any_shown:
        print(f"there is no model in {cache or caches.hub(environ)}; fetch one: dgx-vllm download MODEL")


def remove(names: Sequence[str], environ: Mapping[str, str], *, cache: Path | None, yes: bool) -> int:
    """Removes models after a question, and frees what no other model shares.

    Args:
        names: Hugging Face ids or profiles' names.
        environ: the process's environment.
        cache: look into this Hugging Face cache alone.
        yes: do not ask.

    Returns:
        0 where they are gone, 1 where the answer was no.

    Raises:
        UserError: one is not here, is in use or belongs to somebody else; nothing was removed then.
    """
    by_cache = _models_by_cache(environ, cache)
    chosen = [_find_model(name, by_cache) for name in dict.fromkeys(names)]
    for model, cached in chosen:
        _check(model, cached)
    for model, _ in chosen:
        shared = (
            f", of which {gb(model.size - model.freed)} are shared with other models"
            if model.freed < model.size
            else ""
        )
        print(f"{model.name}: {gb(model.size)}{shared}, last used {_ago(model)} ({model.cache})")
    for model, _ in chosen:
        for name in model.services:
            print(f"the service {name} is not running now; its next start will need {model.name} again")
    if not yes and not _agreed(len(chosen)):
        print("nothing was removed")
        return FAILURE
    for model, cached in chosen:
        hf_cache.remove(cached)
        shutil.rmtree(cached.folder.parent / ".locks" / cached.folder.name, ignore_errors=True)
        print(f"{model.name} is removed, {gb(model.freed)} are free again")
    return 0


def _models_by_cache(environ: Mapping[str, str], cache: Path | None) -> dict[Path, list[Found]]:
    known = servers.known(environ)
    if cache is not None:
        if not inventory.is_there(cache.expanduser()):
            raise UserError(f"--cache {cache}: there is no such directory that can be read")
        return {cache.expanduser(): inventory.models(cache.expanduser(), known)}
    unreadable = {
        server.cache for server in known if server.cache and not inventory.is_there(Path(server.cache))
    }
    if unreadable and os.geteuid() != 0:
        say("models of services are not shown: sudo dgx-vllm list")
    return {hub: inventory.models(hub, known) for hub in inventory.hubs(environ, known)}


def _find_model(name: str, by_cache: Mapping[Path, Sequence[Found]]) -> Found:
    known = profile.by_model(name)
    wanted = known.model if known else name
    if known and known.checkpoint:
        raise UserError(f"{name} comes with dgx-vllm and cannot be removed separately")
    matching = [each for models in by_cache.values() for each in models if each[0].name == wanted]
    if len(matching) == 1:
        return matching[0]
    if matching:
        places = " and ".join(model.cache for model, _ in matching)
        raise UserError(f"{wanted} is in {places}; choose one with --cache DIRECTORY")
    close = nearest(wanted, [model.name for models in by_cache.values() for model, _ in models])
    raise UserError(f"{wanted} is not downloaded; {close or 'dgx-vllm list shows what is'}", FAILURE)


def _check(model: Model, cached: CachedModel) -> None:
    if model.servers:
        names = ", ".join(model.servers)
        raise UserError(
            f"{model.name} is in use by {names}; stop it first: dgx-vllm stop {model.servers[0]}", FAILURE
        )
    if inventory.is_downloading(cached):
        raise UserError(f"{model.name} is being downloaded; stop that first", FAILURE)
    for path in (cached.folder.parent, cached.folder, *(snapshot.path for snapshot in cached.snapshots)):
        if not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written by this user; run it with sudo", FAILURE)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UserError("give --yes to remove without asking")
    print(f"Remove {'it' if count == 1 else 'them'}? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _table(models: Sequence[Model]) -> None:
    columns = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("model", "size", "last used", "profile", ""):
        columns.add_column(header, overflow="fold", justify="right" if header == "size" else "left")
    for model in models:
        notes = [f"in use by {', '.join(model.servers)}"] if model.servers else []
        notes += [f"not whole: {model.missing}"] if model.missing else []
        columns.add_row(model.name, gb(model.size), _ago(model), model.profile or "", "; ".join(notes))
    console = Console(highlight=False)
    # Piped into a file or a pager, a table keeps its lines whole.
    (console if console.is_terminal else Console(highlight=False, width=1000)).print(columns)


def _ago(model: Model) -> str:
    return f"{duration(time.time() - model.used)} ago"
