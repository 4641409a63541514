"""The environment in which vLLM runs over a text: the driver's libraries, and compile jobs that fit."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm import driver, meminfo
from dgx_vllm.evaluation import memory
from dgx_vllm.plan import guard


def prepared(environ: Mapping[str, str], checkpoint: Path) -> dict[str, str]:
    """`environ` for such a process; makes the links to the driver's libraries.

    Args:
        environ: of this process.
        checkpoint: the model's directory; compile jobs have to fit beside what it takes.

    Raises:
        OSError: vLLM's cache cannot be written.
    """
    found = driver.find(environ)
    if found is None:
        return dict(environ)
    driver.link(found, environ)
    taken = memory.needed(checkpoint, environ)
    jobs = guard.compile_jobs(len(os.sched_getaffinity(0)), meminfo.available(), taken)
    return {"MAX_JOBS": str(jobs), **environ, **driver.variables(found, environ)}


def enter(environ: Mapping[str, str], checkpoint: Path) -> None:
    """Become the same command in that environment, unless this is: the loader reads it at the start alone.

    Args:
        environ: of this process.
        checkpoint: as `prepared` takes it.

    Raises:
        OSError: vLLM's cache cannot be written.
    """
    found = driver.find(environ)
    if found is None:
        return
    place = str(driver.place(found, environ))
    if place not in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], prepared(environ, checkpoint))
