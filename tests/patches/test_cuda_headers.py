"""CUDA's own headers have the FP4 types, and CCCL and FlashInfer take them: compiled and run on the CPU."""

import os
import subprocess
from pathlib import Path

PROGRAM = """
#include <cuda_fp4.h>
#include <cuda/std/type_traits>
#include <cstdio>

static_assert(sizeof(__nv_fp4_e2m1) == 1);
static_assert(cuda::std::__is_extended_floating_point<__nv_fp4_e2m1>::value, "CCCL does not know the type");

int main() {
  for (int code = 0; code < 16; code++) {
    __nv_fp4_e2m1 value;
    value.__x = code;
    std::printf("%g ", float(value));
  }
  // Ties, which go to even; values out of range; either zero.
  for (float value : {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.f, 100.f, -100.f, -0.25f, 0.f})
    std::printf("%d ", int(__nv_cvt_float_to_fp4(value, __NV_E2M1, cudaRoundNearest)));
}
"""
MAGNITUDES = [0, 0.5, 1, 1.5, 2, 3, 4, 6]


def include_flags(site: Path) -> list[str]:
    cuda = site / "nvidia/cu13/include"
    return [f"-I{cuda}", f"-I{cuda / 'cccl'}", f"-I{site / 'flashinfer/data/include'}"]


def test_fp4_is_a_type_of_cuda_that_cccl_knows_and_that_decodes_every_code(
    gb10_site: Path, tmp_path: Path
) -> None:
    source, program = tmp_path / "fp4.cc", tmp_path / "fp4"
    source.write_text(PROGRAM)
    compiler = os.environ.get("CXX", "g++")
    command = [compiler, "-std=c++17", *include_flags(gb10_site), str(source), "-o", str(program)]
    compilation = subprocess.run(command, capture_output=True, text=True)
    assert compilation.returncode == 0, compilation.stderr
    numbers = [float(n) for n in subprocess.check_output([program], text=True).split()]
    assert numbers[:16] == MAGNITUDES + [-magnitude for magnitude in MAGNITUDES]
    assert numbers[16:] == [0, 2, 2, 4, 4, 6, 6, 7, 15, 8, 0]


def test_flashinfers_vector_types_take_cudas_fp4(gb10_site: Path) -> None:
    source = "#include <type_traits>\n#include <cuda.h>\n#include <flashinfer/vec_dtypes.cuh>\n"
    command = [os.environ.get("CXX", "g++"), "-E", "-std=c++17", "-x", "c++", *include_flags(gb10_site)]
    command += ["-DFLASHINFER_ENABLE_FP4_E2M1", "-"]
    run = subprocess.run(command, input=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "struct __nv_fp4_e2m1" in run.stdout or "__nv_fp4_e2m1 {" in run.stdout
    assert "struct vec_t<__nv_fp4x2_e2m1" in run.stdout
