"""The environment in which vLLM runs over a text: the driver's libraries, and compile jobs that fit."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from dgx_vllm.evaluation import engine_memory
from dgx_vllm.host import driver, meminfo
from dgx_vllm.plan import guard


def prepared(environ: Mapping[str, str], checkpoint: Path) -> dict[str, str]:
    """`environ` for such a process; makes the links to the driver's libraries.

    Args:
        environ: of this process.
        checkpoint: the model's directory; compile jobs must fit into what it leaves.

    Raises:
        OSError: vLLM's cache cannot be written.
    """
    if driver.find(environ) is None:
        return dict(environ)
    taken = engine_memory.needed(checkpoint, environ)
    jobs = guard.compile_jobs(len(os.sched_getaffinity(0)), meminfo.available(), taken)
    return {"MAX_JOBS": str(jobs), **driver.reaching(environ)}


def enter(environ: Mapping[str, str], checkpoint: Path) -> None:
    """Become the same command in that environment, unless this is one where the driver is found.

    Args:
        environ: of this process.
        checkpoint: as `prepared` takes it.

    Raises:
        OSError: vLLM's cache cannot be written.
    """
    driver.enter(environ, partial(prepared, checkpoint=checkpoint))
