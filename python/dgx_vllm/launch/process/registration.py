"""What a server that starts says of itself."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dgx_vllm.launch.endpoint import endpoint
from dgx_vllm.launch.process import kept_log
from dgx_vllm.launch.process.kept_log import Kept
from dgx_vllm.launch.process.registry import Entry, Registration
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import speculation

_MODELS = ("model", "tokenizer", "hf-config-path")


@contextlib.contextmanager
def registered(launch: Launch, environ: Mapping[str, str]) -> Iterator[tuple[Registration, Kept]]:
    """Makes the server known, and keeps the end of its log, while this lasts.

    Args:
        launch: what is about to run.
        environ: the launcher's environment.
    """
    where = endpoint(launch, launch.environ(environ))
    log = Kept(kept_log.path(launch, environ))
    registration = Registration(
        Entry(
            pid=os.getpid(),
            host=os.uname().nodename,
            model=launch.called,
            uses=tuple(dict.fromkeys(_uses(launch))),
            url=where.url,
            socket=os.path.abspath(where.socket) if where.socket else None,
            key_file=os.path.abspath(where.key_file) if where.key_file else None,
            has_key=where.key is not None,
            started=time.time(),
            log=log.name,
        ),
        environ,
    )
    try:
        yield registration, log
    finally:
        registration.close()
        log.close()


def _uses(launch: Launch) -> Iterator[str]:
    """The Hugging Face ids and paths among the settings."""
    for name in _MODELS:
        text = launch.text(name)
        if text:
            yield text
    served = launch.speculator.verifier if launch.speculator else launch.model
    yield served
    drafter = speculation.drafter(launch.settings, served)
    if drafter:
        yield drafter.name
    adapters = launch.settings["lora-modules"].value if launch.text("lora-modules") else ()
    for word in (adapters,) if isinstance(adapters, str) else adapters if isinstance(adapters, tuple) else ():
        yield _object(word).get("path") or word.partition("=")[2] or word


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
