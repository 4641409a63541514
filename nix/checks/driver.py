"""Where a driver lies in DIRECTORY, it is found there and its library loads: `driver.py DIRECTORY`.

Run by the product's own Python, whose loader looks nowhere on the machine: without the search it must fail.
"""

import os
import subprocess
import sys
from pathlib import Path

from dgx_vllm.host import driver

LOAD = "import ctypes; assert ctypes.CDLL('libcuda.so.1').cuInit(0) == 0"


def loads(environment: dict[str, str]) -> bool:
    return subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True).returncode == 0


def main(directory: Path) -> None:
    found = driver.find(os.environ)
    assert found, "no driver was found"
    assert found.directory == directory, found.directory
    assert found.version == "580.95.05", found.version
    driver.link(found, os.environ)
    assert not loads(dict(os.environ))
    assert loads(dict(os.environ) | driver.variables(found, os.environ))
    print(f"{directory}: found and loaded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
