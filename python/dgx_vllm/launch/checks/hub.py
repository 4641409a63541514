"""Hub: asked for the model before vLLM does, which takes long to find out and ends in a traceback."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.file_formats import AUTO
from dgx_vllm.host import caches
from dgx_vllm.launch.checks import needed_models
from dgx_vllm.launch.rendering.launch import Launch, Variable
from dgx_vllm.profiles import profile
from dgx_vllm.util.errors import FAILURE, UserError

#: Seconds that a hub gets whose answer is not needed: everything is here.
_PATIENCE = 10.0


@dataclass(frozen=True)
class _Fault:
    """Why a model cannot be had.

    Args:
        cause: in a few words.
        status: the process's, see `UserError`.
        refusal: what the hub said to this model; None where it said nothing.
    """

    cause: str
    status: int
    refusal: str | None = None


def check(launch: Launch, environ: Mapping[str, str]) -> Launch:
    """Asks for what the server needs.

    Returns:
        The launch; kept from asking the hub itself where that has no answer and everything is here.

    Raises:
        UserError: something is not here and the hub does not give it.
    """
    if caches.is_offline(environ) or "download-dir" in launch.settings or environ.get("VLLM_USE_MODELSCOPE"):
        return launch  # it may be there, or comes from elsewhere
    models = needed_models.repositories(launch)
    missing = [model for model in models if not needed_models.is_here(launch, model, environ)]
    missing += [model for model in needed_models.others(launch) if not checkpoint.cached(model, environ)]
    for model in models:
        fault = _ask_hub(launch, model, None if missing else _PATIENCE)
        if fault is None:
            continue
        lacking = next(
            (repository for repository in missing if repository == model or fault.refusal is None), None
        )
        if lacking:
            more = checkpoint.other_commit(lacking, caches.hub(environ), launch.text("revision"))
            raise _error(lacking, fault, more)
        if missing:
            continue  # the hub refuses this one alone, and it is here
        why = f"{model} is downloaded, and {fault.cause}"
        return replace(
            launch,
            variables=(*launch.variables, Variable("HF_HUB_OFFLINE", "1", why)),
            notes=(*launch.notes, f"{why}; serving the local copy without asking the hub again"),
        )
    return launch


def _ask_hub(launch: Launch, model: str, seconds: float | None) -> _Fault | None:
    """What is wrong with a model on the hub; None for nothing."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    # huggingface_hub reads the environment when it is imported, and takes a second for that.
    from dgx_vllm.hub import client, faults

    revision = launch.text("revision") or "main"
    drafter = launch.speculator is not None and model == launch.speculator.model
    try:
        client.listing(model, revision, AUTO if drafter else needed_models.reading(launch), seconds)
    except faults.REMOTE as error:
        refusal = faults.lasting(error, model, revision)
        if refusal:
            return _Fault(faults.cause(error), refusal.status, str(refusal))
        return _Fault(faults.cause(error), FAILURE)
    except UserError:
        if seconds is None:
            raise
        # It lists what cannot be downloaded, which is here already.
    return None


def _error(model: str, fault: _Fault, more: str) -> UserError:
    near = difflib.get_close_matches(model, [known.model for known in profile.builtin()], 1)
    hint = f"; did you mean {near[0]}?" if near and near[0] != model else more
    return UserError(
        f"{fault.refusal or f'{model} is not downloaded, and {fault.cause}'}{hint}", fault.status
    )
