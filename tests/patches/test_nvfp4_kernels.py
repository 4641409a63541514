"""The NVFP4 and FP8 kernels of vLLM's wheel: compiled for GB10, with the instructions that it has."""

import re
from collections import Counter
from pathlib import Path

import pytest
from cubins import Cubin, has_family_features, runs_on

from dgx_vllm.kernels.fatbin import architectures

GB10 = (12, 1)
EXTENSIONS = ("_C_stable_libtorch", "_moe_C_stable_libtorch")
# cvt.rn.satfinite.e2m1x2.f32
CONVERSION = re.compile(r"\bF2FP\.SATFINITE\.E2M1\.F32\.")
NVFP4_MMA = re.compile(r"\bOMMA\.SF\.16864\.F32\.E2M1\.E2M1\.UE4M3\.4X\b")
FP8_MMA = re.compile(r"\bQMMA\.16832\.F32\.E4M3\.E4M3\b")
CONVERTING = {
    "activations": r"_ZN4vllm15cvt_fp16_to_fp4I",
    "activations, scales first": r"_ZN4vllm24cvt_fp16_to_fp4_sf_majorI",
    "SiLU and activations": r"_ZN4vllm24silu_mul_cvt_fp16_to_fp4I",
    "KV cache": r"_ZN4vllm30reshape_and_cache_nvfp4_kernelI",
}
MULTIPLYING = {
    "NVFP4 GEMM": (r"13GemmUniversalIN4cute.*MainloopSm120TmaWarpSpecializedBlockScaled", NVFP4_MMA),
    "NVFP4 grouped GEMM": (
        r"17GroupProblemShape.*MainloopSm120ArrayTmaWarpSpecializedBlockScaled",
        NVFP4_MMA,
    ),
    "FP8 GEMM": (r"_ZN7cutlass13device_kernelI19enable_sm120_family", FP8_MMA),
    "FP8 blockwise GEMM": (r"_ZN7cutlass13device_kernelIN4vllm29cutlass_3x_gemm_fp8_blockwise", FP8_MMA),
}
OTHERS = {
    "Marlin": r"_ZN6marlin6MarlinI",
    "Marlin MoE": r"_ZN16marlin_moe_wna166MarlinI",
    "MoE data": r"_Z24compute_batched_moe_data",
    "GDN decode": r"gdn_decode_post_conv",
}
FAMILIES = CONVERTING | {name: pattern for name, (pattern, _) in MULTIPLYING.items()} | OTHERS


def kernels(cubins: list[Cubin], pattern: str) -> list[tuple[Cubin, str]]:
    """The kernels of a family that run on GB10."""
    return [
        (cubin, kernel)
        for cubin in cubins
        if runs_on(cubin.target, GB10)
        for kernel in sorted(cubin.kernels)
        if re.search(pattern, kernel)
    ]


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("sm_120", True),
        ("sm_121", True),
        ("sm_120f", True),
        ("sm_121f", True),
        ("sm_121a", True),
        ("sm_120a", False),
        ("sm_100f", False),
        ("sm_90a", False),
    ],
)
def test_targets_that_gb10_takes(target: str, runs: bool) -> None:
    assert runs_on(target, GB10) == runs


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_are_compiled_for_gb10_with_its_familys_features(
    gb10_cubins: list[Cubin], family: str
) -> None:
    found = kernels(gb10_cubins, FAMILIES[family])
    assert found, f"no kernel {FAMILIES[family]} that runs on GB10"
    plain = [kernel for cubin, kernel in found if not has_family_features(cubin.target)]
    assert not plain


@pytest.mark.parametrize("family", CONVERTING)
def test_e2m1_is_converted_by_the_gpus_own_instruction(gb10_cubins: list[Cubin], family: str) -> None:
    found = kernels(gb10_cubins, CONVERTING[family])
    assert found, f"no kernel {CONVERTING[family]} that runs on GB10"
    assert [kernel for cubin, kernel in found if not CONVERSION.search(cubin.sass[kernel])] == []


@pytest.mark.parametrize("family", MULTIPLYING)
def test_gemms_multiply_on_the_tensor_cores(gb10_cubins: list[Cubin], family: str) -> None:
    """A kernel whose guard leaves this target out is compiled to a trap, and holds no multiplication."""
    pattern, instruction = MULTIPLYING[family]
    found = kernels(gb10_cubins, pattern)
    assert found, f"no kernel {pattern} that runs on GB10"
    assert [kernel for cubin, kernel in found if not instruction.search(cubin.sass[kernel])] == []


def test_the_doctor_counts_what_ptxas_has_noted(gb10_site: Path, gb10_cubins: list[Cubin]) -> None:
    """The suffix by the fatbin's flags, for wheels that others have compiled."""
    held: Counter[str] = Counter()
    for extension in EXTENSIONS:
        held += architectures(gb10_site / f"vllm/{extension}.abi3.so").cubins
    noted = Counter(cubin.target for cubin in gb10_cubins)
    assert {target for target in held if target.startswith("sm_12")} == set(noted)
    assert all(held[target] >= count for target, count in noted.items())
