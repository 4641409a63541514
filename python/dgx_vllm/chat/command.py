"""`dgx-vllm chat`."""

import os
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from dgx_vllm.chat.screen import Screen
from dgx_vllm.chat.session import Session
from dgx_vllm.chat.target import find
from dgx_vllm.util.errors import UserError


def chat(
    model: str | None,
    environ: Mapping[str, str],
    *,
    url: str | None,
    key_file: Path | None,
    system: str | None,
    prompt: str | None,
    options: Mapping[str, Any],
    verbose: bool,
) -> None:
    """Talks to a server: on a terminal until Ctrl-D, else one question from the prompt and standard input.

    Args:
        model: see `target.find`.
        environ: the process's environment.
        url: see `target.find`.
        key_file: see `target.find`.
        system: how the model should behave.
        prompt: one question, asked without a conversation; what is piped in follows it.
        options: fields of each request; those that are None are left to the server.
        verbose: say how many tokens an answer had.

    Raises:
        UserError: anything that the user must fix, and whatever the server refuses.
    """
    piped = not sys.stdin.isatty() if prompt is None else _holds_a_text()
    question = "\n\n".join(filter(None, [prompt, sys.stdin.read().strip() if piped else None]))
    if not question and (piped or prompt is not None):
        raise UserError("there is no question: standard input is empty")
    target = find(model, url, key_file, environ)
    parameters = {name: value for name, value in options.items() if value is not None}
    with closing(target.client):
        session = Session(target, Screen(environ), system, parameters, verbose)
        if question:
            session.ask(question)
        else:
            # A script that starts us in the background has us ignore Ctrl-C, which stops an answer here.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            session.converse()


def _holds_a_text() -> bool:
    """Whether standard input is a file or a pipe: ssh's socket would stay open for ever."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
