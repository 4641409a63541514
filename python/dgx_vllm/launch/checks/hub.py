"""Hub: asked for the model before vLLM does, which takes long to find out and ends in a traceback."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.checkpoints.file_formats import AUTO
from dgx_vllm.host import caches
from dgx_vllm.launch.checks import needed_models
from dgx_vllm.launch.checks.needed_models import Repository
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
    missing = [model for model in models if not needed_models.is_here(model, environ)]
    missing += [
        Repository(name, None, AUTO, tokenizer=True)
        for name in needed_models.others(launch)
        if not checkpoint.cached(name, environ)
    ]
    for model in models:
        fault = _ask_hub(model, None if missing else _PATIENCE)
        if fault is None:
            continue
        lacking = next(
            (repository for repository in missing if repository == model or fault.refusal is None), None
        )
        if lacking:
            cache = caches.hub(environ)
            # Of a draft model --revision names nothing.
            own = lacking.name == needed_models.served(launch)
            more = checkpoint.other_commit(lacking.name, cache, lacking.revision, option=own)
            raise _error(lacking.name, fault, more, own)
        if missing:
            continue  # the hub refuses this one alone, and it is here
        why = f"{model.name} is downloaded, and {fault.cause}"
        return replace(
            launch,
            variables=(*launch.variables, Variable("HF_HUB_OFFLINE", "1", why)),
            notes=(*launch.notes, f"{why}; serving the local copy without asking the hub again"),
        )
    return launch


def _ask_hub(model: Repository, seconds: float | None) -> _Fault | None:
    """What is wrong with a model on the hub; None for nothing."""
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "30")
    # huggingface_hub reads the environment when it is imported, and takes a second for that.
    from dgx_vllm.hub import client, faults

    revision = model.revision or "main"
    try:
        client.listing(model.name, revision, model.reading, seconds)
    except faults.REMOTE as error:
        refusal = faults.lasting(error, model.name, revision)
        if refusal:
            return _Fault(faults.cause(error), refusal.status, str(refusal))
        return _Fault(faults.cause(error), FAILURE)
    except UserError:
        if seconds is None:
            raise
        # It lists what cannot be downloaded, which is here already.
    return None


def _error(model: str, fault: _Fault, more: str, own: bool) -> UserError:
    known = [each.model for each in profile.builtin()]
    drafts = [draft.model for each in profile.builtin() for draft in each.drafts if draft.model]
    near = difflib.get_close_matches(model, known if own else drafts, 1)
    hint = f"; did you mean {near[0]}?" if near and near[0] != model else more
    return UserError(
        f"{fault.refusal or f'{model} is not downloaded, and {fault.cause}'}{hint}", fault.status
    )
