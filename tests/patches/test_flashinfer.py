"""What FlashInfer compiles at run time on a GB10: targets and headers that have the E2M1 conversion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# FlashInfer's own Python, on a machine that claims one GB10; nothing is compiled.
SCRIPT = """
import json
import torch
torch.cuda.device_count = lambda: 1
torch.cuda.get_device_capability = lambda device=None: (12, 1)
torch.version.cuda = "13.0"
from flashinfer.jit import core
from flashinfer.jit.fused_moe import gen_cutlass_fused_moe_sm120_module
from flashinfer.jit.gemm import gen_gemm_sm120_module_cutlass_fp4
from flashinfer.quantization import fp4_quantization

class Built(Exception):
    pass

def build_and_load(spec, *arguments, **options):
    raise Built(spec)

core.JitSpec.build_and_load = build_and_load
specs = [gen_cutlass_fused_moe_sm120_module(), gen_gemm_sm120_module_cutlass_fp4()]
try:
    fp4_quantization.get_fp4_quantization_module("121")
except Built as built:
    specs.append(built.args[0])
print(json.dumps({spec.name: spec.extra_cuda_cflags for spec in specs}))
"""
# What nvcc 13.0 defines for a target (`nvcc --dryrun`).
MACROS = {
    "121a": [
        "__CUDA_ARCH__=1210",
        "__CUDA_ARCH_FEAT_SM121_ALL",
        "__CUDA_ARCH_SPECIFIC__=1210",
        "__CUDA_ARCH_FAMILY_SPECIFIC__=1210",
    ],
    "120f": ["__CUDA_ARCH__=1200", "__CUDA_ARCH_FAMILY_SPECIFIC__=1200"],
    "121": ["__CUDA_ARCH__=1210"],
}
COMPILER = [
    "__CUDACC__",
    "__NVCC__",
    "__CUDACC_VER_MAJOR__=13",
    "__CUDACC_VER_MINOR__=0",
    "CUDA_VERSION=13000",
]
SOURCE = """
#include <cutlass/float_subbyte.h>
#include <flashinfer/arch_condition.h>
"""


def preprocessed(site: Path, target: str) -> subprocess.CompletedProcess[str]:
    """The macros that hold for a target after FlashInfer's and its CUTLASS's headers."""
    cuda = site / "nvidia/cu13/include"
    data = site / "flashinfer/data"
    directories = [cuda, cuda / "cccl", data / "cutlass/include", data / "include"]
    command = [os.environ.get("CXX", "g++"), "-E", "-dM", "-std=c++17", "-x", "c++", "-"]
    command += [f"-I{directory}" for directory in directories]
    command += [f"-D{macro}" for macro in COMPILER + MACROS[target]]
    return subprocess.run(command, input=SOURCE, capture_output=True, text=True)


@pytest.fixture(scope="session")
def flags(
    gb10_site: Path, session_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict:
    """nvcc's flags for each module, by FlashInfer as GB10's environment has it: it is pure Python."""
    pytest.importorskip("vllm")
    packages = tmp_path_factory.mktemp("packages")
    for name in ("flashinfer", "pynvml.py"):
        (packages / name).symlink_to(gb10_site / name)
    environment = {
        **session_environment,
        "PYTHONPATH": f"{packages}:{session_environment['PYTHONPATH']}",
        "FLASHINFER_WORKSPACE_BASE": str(packages),
    }
    environment.pop("FLASHINFER_CUDA_ARCH_LIST", None)
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_modules_with_fp4_are_compiled_for_targets_with_the_conversion(flags: dict[str, list[str]]) -> None:
    targets = {
        name: [flag for flag in nvcc_flags if flag.startswith(("-gencode", "-arch"))]
        for name, nvcc_flags in flags.items()
    }
    assert targets == {
        "fused_moe_120": ["-gencode=arch=compute_121a,code=sm_121a"],
        "fp4_gemm_cutlass_sm120": ["-gencode=arch=compute_121a,code=sm_121a"],
        # The family's target, which serves 12.1 too.
        "fp4_quantization_120f": ["-gencode=arch=compute_120f,code=sm_120f"],
    }


@pytest.mark.parametrize("target", ["121a", "120f"])
def test_cutlass_converts_e2m1_in_hardware(gb10_site: Path, target: str) -> None:
    run = preprocessed(gb10_site, target)
    assert run.returncode == 0, run.stderr
    assert "#define CUDA_PTX_FP4FP6_CVT_ENABLED 1" in run.stdout.splitlines()


def test_a_target_without_suffix_is_refused_and_has_no_conversion(gb10_site: Path) -> None:
    """The headers do look at the target."""
    run = preprocessed(gb10_site, "121")
    assert "must use Arch specific or Arch Family specific target" in run.stderr
    assert "CUDA_PTX_FP4FP6_CVT_ENABLED" not in run.stdout
