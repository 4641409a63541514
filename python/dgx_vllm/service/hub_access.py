"""The hub: what a server asks of it beyond what its download unit has fetched, the model and its draft model.

nix/service/hub.nix decides the same for NixOS; tests/service/test_hub_cases.py compares both.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.download.command import profile_drafter
from dgx_vllm.host import caches
from dgx_vllm.launch.settings import path_flags, speculation
from dgx_vllm.launch.settings.path_flags import Kind
from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.profiles import profile
from dgx_vllm.service.instance import Instance
from dgx_vllm.util.errors import UserError

_READING = ("load-format", "config-format")
#: What the files of a sharded state are called, which the download is not told.
_OWN_FILES = ("model-loader-extra-config", "pattern")
_REVISIONS = ("revision", "tokenizer-revision", "code-revision")
_SPECULATIVE = ("spec-model", "speculative-config")
_MAIN = "main"

OFFLINE = "HF_HUB_OFFLINE"
"""Keeps both units off the hub where the file of --environment-file sets it."""


def revision(settings: Mapping[str, Setting]) -> str | None:
    """The model's revision, None where none was asked for."""
    return settings["revision"].text if "revision" in settings else None


def reading(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    """The words that tell `dgx-vllm download` what vLLM will read.

    That is which of the model's files, and which draft model, where that is not the one of its profile.

    Where the files of a sharded state have names of the user's own, the server asks the hub: see `is_needed`.
    """
    given = ((f"--{name}", settings[name].text) for name in _READING if name in settings)
    return (*(word for pair in given for word in pair), *_drafts(settings))


def _drafts(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    wanted, default = drafter(settings), profile_drafter(settings["model"].text)
    if _place(wanted) == _place(default):
        return ()  # an update of the profile then reaches download and server alike
    config = None
    if wanted:
        config = {"model": wanted.name, **({"revision": wanted.revision} if wanted.revision else {})}
    return "--speculative-config", json.dumps(config, separators=(",", ":"))


def drafter(settings: Mapping[str, Setting]) -> DraftModel | None:
    """The draft model that the download unit fetches, None where there is none to fetch."""
    found = speculation.drafter(settings)
    if found is None or found.name == settings["model"].text or "://" in found.name:
        return None
    return None if checkpoint.looks_like_path(found.name) else found


def _place(draft: DraftModel | None) -> tuple[str, str | None] | None:
    return (draft.name, draft.revision) if draft else None


def is_needed(settings: Mapping[str, Setting]) -> bool:
    """Whether the settings name what no download unit fetches: another repository, or another revision.

    The model's own other revision counts too: vLLM was not tried on one without the hub.
    """
    if any(settings[name].text != _MAIN for name in _REVISIONS if name in settings):
        return True
    found = list(path_flags.found(settings))
    if any((place.setting.name, place.field) == _OWN_FILES for place in found):
        return True
    model = settings["model"].text
    fetched = _SPECULATIVE if drafter(settings) else ()
    others = {
        place.word for place in found if place.kind is Kind.REPOSITORY and place.setting.name not in fetched
    } - {model}
    return any(not checkpoint.looks_like_path(name) for name in others)


def check(settings: Mapping[str, Setting]) -> None:
    """Refuses a directory for downloads that the download unit would not fill.

    Raises:
        UserError: there is one.
    """
    if "download-dir" in settings:
        raise UserError(
            "--download-dir: the service fetches models into its cache; "
            "give --cache-dir DIRECTORY and --run-as USER instead, or the model's own directory as the model"
        )


def check_offline(
    instance: Instance, draft: DraftModel | None, variables: Mapping[str, str], cache: Path
) -> None:
    """Refuses a download that may not ask the hub.

    Args:
        instance: one that downloads its model.
        draft: the draft model that it downloads, None for none.
        variables: of the file of --environment-file.
        cache: the service's; one that the caller may not read is left alone.

    Raises:
        UserError: the model or its draft model is not there.
    """
    if not caches.is_offline(variables):
        return
    environ = {"HF_HOME": str(cache / "huggingface"), **variables}
    place, model = caches.hub(environ), instance.model or ""
    known = profile.by_model(model)
    if place.exists() and not os.access(place, os.R_OK | os.X_OK):
        return
    needed = [(known.argument if known else model, instance.revision)]
    needed += [(draft.name, draft.revision)] if draft else []
    missing = [name for name, revision in needed if not checkpoint.cached(name, environ, revision)]
    if missing:
        raise UserError(
            f"{missing[0]} is not in {place}, and {OFFLINE} in the file of --environment-file forbids "
            f"fetching it; take {OFFLINE} out: a server whose model is there does not ask the hub anyway"
        )
