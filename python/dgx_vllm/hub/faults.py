"""Faults: which errors of a download another attempt may fix, and what to do about the others."""

import re
from json import JSONDecodeError

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dgx_vllm.hub.deadline import SilentHubError
from dgx_vllm.util.errors import FAILURE, UserError

# Statuses below 500 that pass: a timeout, a part that the server cannot continue, too early, too many.
_PASSING = (408, 416, 425, 429)


class BrokenOffError(Exception):
    """A transfer that ended without an error and without the whole file."""


class StalledError(BrokenOffError):
    """A transfer that brings next to nothing."""


REMOTE = (
    BrokenOffError,
    HTTPError,
    HFValidationError,
    JSONDecodeError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    SilentHubError,
    UnicodeEncodeError,
)
"""What talking to the hub may end in; any other OSError is the disk's."""


def lasting(error: Exception, model: str, revision: str) -> UserError | None:
    """What the user must fix; None if another attempt may succeed.

    Statuses: 2 where the same command can never succeed (name, token, licence), 1 for the rest.
    """
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    page = f"{constants.ENDPOINT}/{model}"
    if is_offline(error):
        return UserError(offline(model), FAILURE)
    if isinstance(error, HFValidationError):
        return UserError(
            f"{model!r} is neither a profile, a path that exists nor a Hugging Face id such as owner/name; "
            "give one of them"
        )
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{model} has no revision {revision!r}; {page} lists its branches and tags")
    if isinstance(error, GatedRepoError):
        then = _with_token("with the account of the token", "then set HF_TOKEN to a token of that account")
        return UserError(f"{model} is gated: accept its licence at {page}, {then}")
    if isinstance(error, RepositoryNotFoundError):
        then = _with_token("set HF_TOKEN to a token that may read it", "set HF_TOKEN")
        return UserError(f"the hub shows no model {model}; correct the name or, if it is private, {then}")
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"{model} changed on the hub while it was downloaded; run this again", FAILURE)
    if isinstance(error, HfHubHTTPError):
        return _refused(error.response.status_code, model, page)
    if type(error).__name__ == "LocalProtocolError" or isinstance(error, UnicodeEncodeError):
        # The error shows the header that holds the token: nothing of it is repeated.
        return UserError("HF_TOKEN holds characters that no token has; set it to the token and nothing else")
    return None


def is_offline(error: Exception) -> bool:
    """Whether nothing was asked, because HF_HUB_OFFLINE forbids it."""
    return isinstance(error, OfflineModeIsEnabled)


def offline(model: str) -> str:
    """What to say of a model that is not here then."""
    return f"{model} is not downloaded and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE"


def is_refusal(error: Exception) -> bool:
    """Whether the hub was asked and said no, rather than not being asked."""
    return not is_offline(error) and lasting(error, "", "") is not None


def cause(error: Exception) -> str:
    """An error in one line, without addresses (which may be signed) and without the token."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        return f"the hub answers {error.response.status_code}"
    line = next(iter(str(error).splitlines()), "")
    token = get_token()
    line = re.sub(r"https?://\S+", "the hub", line.replace(token, "(token)") if token else line)
    if isinstance(error, BrokenOffError):
        return line
    if isinstance(error, SilentHubError) or type(error).__name__.endswith("Timeout"):
        message = line or type(error).__name__
        return f"the hub does not answer ({message}): check the network, a proxy, or HF_ENDPOINT"
    named = f"{type(error).__name__}: {line}".rstrip(": ")
    if type(error).__name__ == "ConnectError":
        return f"the hub cannot be reached ({named}): check the network, or HF_ENDPOINT"
    return named


def _refused(status: int, model: str, page: str) -> UserError | None:
    if status >= 500 or status in _PASSING:
        return None
    if status == 401:
        return UserError("the hub refuses the token (401); set HF_TOKEN to one that is valid, or unset it")
    if status == 403:
        return UserError(
            f"the token may not read {model} (403); give it that right, or accept the licence at {page}"
        )
    return UserError(f"the hub refuses {model} with status {status}; see {page}", FAILURE)


def _with_token(there: str, missing: str) -> str:
    return there if get_token() else missing
