"""Loadable: whether the model is a checkpoint that vLLM can load, as far as this machine can tell."""

import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any

from dgx_vllm.checkpoints import checkpoint, file_formats
from dgx_vllm.checkpoints.draft_model import DraftModel
from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.host import caches
from dgx_vllm.launch.checks import draft_pair, needed_models
from dgx_vllm.launch.checks.draft_pair import Pair
from dgx_vllm.launch.checks.preflight import COMMANDS
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import speculation
from dgx_vllm.launch.settings.ranking import Setting
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
# Flags by which the model's config is another, or is changed.
_OTHER_CONFIGS = ("hf-overrides", "hf-config-path")
_GONE = {
    "gguf": file_formats.NO_GGUF,
    "bitsandbytes": "vLLM 0.32 has no bitsandbytes; leave it out, and give a checkpoint quantized otherwise",
}


def check(launch: Launch, environ: Mapping[str, str]) -> list[str]:
    """Refuses a model that is neither a whole checkpoint here nor a hub id that could be fetched.

    Returns:
        What is worth knowing of a draft model.

    Raises:
        UserError: what is missing, or what vLLM cannot load, and what to do.
    """
    for name in (launch.model, *_others(launch)):
        if file_formats.is_gguf(name):
            raise UserError(f"{name}: {file_formats.NO_GGUF}")
    _check_load_format(launch.settings.get("load-format"))
    if "://" in launch.model:
        return []
    if launch.speculator:
        _check_drafts(launch, launch.speculator)
    model = needed_models.served(launch)
    if file_formats.is_gguf(model):
        raise UserError(f"{model}, for which {launch.model} drafts: {file_formats.NO_GGUF}")
    _check_one(launch, model, environ)
    drafter = needed_models.drafter(launch)
    if drafter:
        _check_drafter(launch, drafter, environ)
    else:
        draft_pair.check_own(model, speculation.method(launch.settings))
    config = checkpoint.config(model, environ, launch.text("revision"), needed_models.reading(launch))
    _check_quantization(model, config or {})
    return _check_pair(launch, drafter, config, environ) if drafter and config else []


def _check_pair(
    launch: Launch, drafter: DraftModel, config: Mapping[str, Any], environ: Mapping[str, str]
) -> list[str]:
    """Compares a draft model with the model, where the configs of both are here and count as they are."""
    place = checkpoint.place(drafter.name, environ, drafter.revision)
    draft_config = checkpoint.config(drafter.name, environ, drafter.revision)
    if place is None or draft_config is None or any(name in launch.settings for name in _OTHER_CONFIGS):
        return []
    drafted = speculation.count(launch.settings)
    heterogeneous = speculation.allows_other_vocabulary(launch.settings)
    pair = Pair(
        model=needed_models.served(launch),
        draft=drafter,
        config=config,
        draft_config=draft_config,
        drafts=drafted[1] if drafted else None,
        heterogeneous=heterogeneous,
        place=place,
    )
    return draft_pair.check(pair)


def _check_one(launch: Launch, model: str, environ: Mapping[str, str]) -> None:
    if checkpoint.looks_like_path(model):
        _check_directory(launch, model)
    elif model in COMMANDS:
        raise UserError(f"{model!r} is a command, not a model: `dgx-vllm {model}`, or `nix run . -- {model}`")
    elif not _HUB_ID.fullmatch(model):
        raise UserError(
            f"the model {model!r} is neither a directory that exists nor a Hugging Face id such as owner/name"
        )
    elif caches.is_offline(environ):
        _check_cached(launch, model, environ)


def _check_directory(launch: Launch, model: str) -> None:
    checkpoint.check(
        model,
        config="hf-config-path" not in launch.settings,
        tokenizer=needed_models.has_own_tokenizer(launch),
        reading=needed_models.reading(launch),
    )


def _check_cached(launch: Launch, model: str, environ: Mapping[str, str]) -> None:
    """Refuses, where nothing may be fetched, a model that the cache does not hold or not in whole."""
    revision, cache = launch.text("revision"), caches.hub(environ)
    named = f"{model}{f' at {revision}' if revision else ''}"
    found = checkpoint.snapshot(model, cache, revision, needed_models.reading(launch))
    if found is None:
        why = f" ({launch.speculator.model} drafts for it)" if launch.speculator else ""
        raise UserError(
            f"{named} is not in {cache} and HF_HUB_OFFLINE forbids fetching it{why}; unset HF_HUB_OFFLINE, "
            f"or give a local directory{checkpoint.other_commit(model, cache, revision)}"
        )
    try:
        # vLLM turns the name into this directory, and goes on as with any other.
        _check_directory(launch, str(found))
    except UserError as error:
        raise UserError(f"HF_HUB_OFFLINE forbids fetching what {named} lacks: {error}") from error


def _others(launch: Launch) -> list[str]:
    """The drafter, the tokenizer and the config, where they are named apart."""
    drafter = needed_models.drafter(launch)
    named = [launch.text(name) for name in ("tokenizer", "hf-config-path")]
    return [name for name in (*named, drafter.name if drafter else None) if name]


def _check_drafts(launch: Launch, speculator: Speculator) -> None:
    if speculation.count(launch.settings) is None:
        raise UserError(
            f"{speculator.model} is a speculators repository, with which vLLM always drafts; for no drafts "
            f"serve {speculator.verifier} itself"
        )


def _check_drafter(launch: Launch, drafter: DraftModel, environ: Mapping[str, str]) -> None:
    """Refuses a draft model that is not whole, as far as it must be here; it needs no tokenizer."""
    name, reading = drafter.name, needed_models.draft_reading(launch, drafter)
    if "://" in name:
        return
    if checkpoint.looks_like_path(name):
        directory = name
    elif not _HUB_ID.fullmatch(name):
        raise UserError(
            f"the draft model {name!r} is neither a directory that exists nor a Hugging Face id such as "
            "owner/name"
        )
    elif caches.is_offline(environ):
        cache = caches.hub(environ)
        snapshot = checkpoint.snapshot(name, cache, drafter.revision, reading)
        if snapshot is None:
            named = f"{name} at {drafter.revision}" if drafter.revision else name
            raise UserError(
                f"the draft model {named} is not in {cache} and HF_HUB_OFFLINE forbids fetching it; unset "
                "HF_HUB_OFFLINE, give a local directory, or --spec-tokens 0 for no drafts"
                f"{checkpoint.other_commit(name, cache, drafter.revision, option=False)}"
            )
        directory = str(snapshot)
    else:
        return
    try:
        checkpoint.check(directory, reading=reading)
    except UserError as error:
        raise UserError(f"the draft model {name}: {error}", error.status) from error


def _check_load_format(setting: Setting | None) -> None:
    """Refuses a format for which vLLM has no loader."""
    load_format = setting.text.lower() if setting else "auto"
    if setting is None or load_format in file_formats.LOAD_FORMATS or _has_plugins():
        return
    known = sorted(file_formats.LOAD_FORMATS)
    hint = flags.nearest(load_format, known) or f"choose from {', '.join(known)}"
    reason = _GONE.get(load_format) or f"vLLM 0.32 has no such format; {hint}"
    raise UserError(f"{setting.origin} {setting.text}: {reason}")


def _check_quantization(model: str, config: Mapping[str, Any]) -> None:
    """Refuses a checkpoint that is quantized by what vLLM has no method for."""
    method = checkpoint.quantization(config)
    known = (*flags.load().require("quantization", "").choices, "auto-round")
    if not method or method in known or _has_plugins():
        return
    raise UserError(
        f"{model} is quantized by {method}, which vLLM 0.32 does not support; give an unquantized "
        "checkpoint, or one by modelopt, compressed-tensors, awq, gptq, fp8 or mxfp4"
    )


def _has_plugins() -> bool:
    """Whether vLLM loads plugins of others, which may add formats and methods."""
    plugins = importlib.metadata.entry_points(group="vllm.general_plugins")
    return any(not point.value.startswith(("dgx_vllm.", "vllm.")) for point in plugins)
