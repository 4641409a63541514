"""Refusal: what is said of a model that vLLM does not run on this machine."""

import traceback
from collections.abc import Sequence

from dgx_vllm.launch.process import log_relay
from dgx_vllm.util.errors import FAILURE, UserError

_SAID = 300


def of(model: object, lines: Sequence[str], otherwise: str) -> UserError:
    """The error for the user.

    Args:
        model: what was to run, as `serve` takes it.
        lines: what vLLM said.
        otherwise: the reason where it said nothing.
    """
    why = log_relay.cause(lines) or next(reversed(lines), otherwise)
    return UserError(
        f"vLLM does not run {model} here ({why[:_SAID]}); `dgx-vllm serve {model} --dry-run` "
        "and `dgx-vllm doctor` say more",
        FAILURE,
    )


def raised(model: object, error: Exception) -> UserError:
    """The same for a vLLM in this process, which raises what it has to say."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return of(model, lines, type(error).__name__)
