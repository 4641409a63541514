"""A place: the machine that is looked at, which a test replaces by a directory and a fake NVML."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgx_vllm.host import driver, machine
from dgx_vllm.host.driver import Driver
from dgx_vllm.host.machine import Vllm
from dgx_vllm.util.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where the checks look.

    Args:
        environ: the environment that a server would be started from.
        vllm: the installed vLLM, None if there is none.
        driver: the driver's libraries, None if there are none.
        nvml: the NVML binding, None if there is none.
        root: the directory taken for /.
        fault: what is wrong with the environment's own settings of the search, if anything.
    """

    environ: Mapping[str, str]
    vllm: Vllm | None = None
    driver: Driver | None = None
    nvml: Any = None
    root: Path = Path("/")
    fault: str | None = None

    def read(self, path: str) -> str | None:
        """The text of a file below the root, None if it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None


def here(environ: Mapping[str, str]) -> Place:
    """This machine."""
    fault = None
    try:
        libraries = driver.find(environ)
    except UserError as error:
        libraries, fault = None, str(error)
    try:
        vllm = machine.vllm_build()  # alone: the rest of `detect` is looked at here, fault by fault
    except UserError:
        vllm = None
    # Without vLLM there is no binding; sys.prefix holds none, and the finding about vLLM says why.
    package = vllm.package if vllm else Path(sys.prefix)
    return Place(environ, vllm, libraries, driver.nvml(package, libraries), fault=fault)
