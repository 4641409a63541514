"""Where vLLM's compiled dispatchers go on compute capability 12.1: run on an emulated core, with no GPU."""

import os

import pytest

# Where there is an environment to look at, its absence is an error.
if "GB10_ENVIRONMENT" not in os.environ:
    pytest.importorskip("unicorn")

from arm_functions import Extension, Tensor

BFLOAT16, FLOAT32, INT32, UINT8, FLOAT8_E4M3 = "bfloat16", "float32", "int32", "uint8", "float8_e4m3fn"
M, N, K, EXPERTS = 64, 128, 256, 4
ONE = Tensor((1,), FLOAT32)
OUT = Tensor((M, N), BFLOAT16)
PER_EXPERT = Tensor((EXPERTS,), INT32)
ALPHAS = Tensor((EXPERTS,), FLOAT32)
FP8 = [OUT, Tensor((M, K), FLOAT8_E4M3), Tensor((K, N), FLOAT8_E4M3, strides=(1, K))]
PACKED, BLOCK_SCALES = Tensor((M, K // 2), UINT8), Tensor((M, K // 16), FLOAT8_E4M3)
ACTIVATIONS = Tensor((M, K), BFLOAT16)

# Dispatcher, its arguments, and the kernels' entries that it chooses from.
DISPATCHERS = {
    "cutlass_scaled_mm": (
        [*FP8, ONE, ONE, None],
        [f"cutlass_scaled_mm_{target}" for target in ("sm75", "sm80", "sm89", "sm90", "sm100", "sm120")],
    ),
    "cutlass_scaled_fp4_mm": (
        [OUT, PACKED, Tensor((N, K // 2), UINT8), BLOCK_SCALES, Tensor((N, K // 16), FLOAT8_E4M3), ONE],
        ["cutlass_scaled_fp4_mm_sm100a", "cutlass_scaled_fp4_mm_sm120a"],
    ),
    "cutlass_fp4_group_mm": (
        [
            OUT,
            PACKED,
            Tensor((EXPERTS, N, K // 2), UINT8),
            BLOCK_SCALES,
            Tensor((EXPERTS, N, K // 16), FLOAT8_E4M3),
            ALPHAS,
            Tensor((EXPERTS, 3), INT32),
            PER_EXPERT,
            PER_EXPERT,
        ],
        ["run_fp4_blockwise_scaled_group_mm_sm120"],
    ),
    "scaled_fp4_quant_out": (
        [ACTIVATIONS, ONE, 1, PACKED, BLOCK_SCALES],
        ["scaled_fp4_quant_sm1xxa"],
    ),
    "scaled_fp4_experts_quant": (
        [PACKED, BLOCK_SCALES, ACTIVATIONS, ALPHAS, PER_EXPERT, PER_EXPERT],
        ["scaled_fp4_experts_quant_sm1xxa"],
    ),
    "silu_and_mul_scaled_fp4_experts_quant": (
        [PACKED, BLOCK_SCALES, ACTIVATIONS, ALPHAS, PER_EXPERT, PER_EXPERT],
        ["silu_and_mul_scaled_fp4_experts_quant_sm1xxa"],
    ),
    "silu_and_mul_nvfp4_quant": (
        [PACKED, BLOCK_SCALES, ACTIVATIONS, ONE],
        ["silu_and_mul_nvfp4_quant_sm1xxa"],
    ),
}
# Where they throw: STD_TORCH_CHECK_NOT_IMPLEMENTED, "No compiled ... for compute capability".
THROWS = "__cxa_allocate_exception"


def destination(extension: Extension, dispatcher: str, capability: tuple[int, int]) -> str | int:
    extension.capability = capability
    arguments, entries = DISPATCHERS[dispatcher]
    return extension.run(dispatcher, arguments, ends=entries)


@pytest.mark.parametrize("dispatcher", DISPATCHERS)
def test_capability_12_1_goes_where_12_0_goes(extension: Extension, dispatcher: str) -> None:
    _, entries = DISPATCHERS[dispatcher]
    assert destination(extension, dispatcher, (12, 1)) == entries[-1]


@pytest.mark.parametrize("dispatcher", DISPATCHERS)
def test_dispatchers_were_compiled_with_the_sm120_kernels(extension: Extension, dispatcher: str) -> None:
    """ENABLE_..._SM120 was set for the dispatchers too: on 12.0 itself none says "no compiled kernel"."""
    _, entries = DISPATCHERS[dispatcher]
    assert destination(extension, dispatcher, (12, 0)) == entries[-1]


@pytest.mark.parametrize(
    ("dispatcher", "capability", "expected"),
    [
        ("cutlass_scaled_mm", (9, 0), "cutlass_scaled_mm_sm90"),
        ("cutlass_scaled_mm", (10, 0), "cutlass_scaled_mm_sm100"),
        ("cutlass_scaled_fp4_mm", (10, 0), "cutlass_scaled_fp4_mm_sm100a"),
        ("cutlass_scaled_fp4_mm", (9, 0), THROWS),
        ("cutlass_fp4_group_mm", (9, 0), THROWS),
        ("scaled_fp4_quant_out", (9, 0), THROWS),
    ],
)
def test_other_capabilities_go_elsewhere(
    extension: Extension, dispatcher: str, capability: tuple[int, int], expected: str
) -> None:
    """The emulation sees a difference where there is one."""
    assert destination(extension, dispatcher, capability) == expected


@pytest.mark.parametrize(
    "question",
    [
        "cutlass_scaled_mm_supports_fp8",
        "cutlass_scaled_mm_supports_block_fp8",
        "cutlass_scaled_mm_supports_fp4",
    ],
)
def test_python_is_told_that_capability_12_1_is_supported(extension: Extension, question: str) -> None:
    assert [extension.run(question, [capability]) & 1 for capability in (121, 120, 80)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([ONE, ONE], "cutlass_scaled_mm_sm120_fp8"),
        (
            [
                Tensor((M, K // 128), FLOAT32, strides=(1, M)),
                Tensor((K // 128, N // 128), FLOAT32, strides=(1, K // 128)),
            ],
            "cutlass_scaled_mm_blockwise_sm120_fp8",
        ),
    ],
    ids=["per-tensor", "blockwise"],
)
def test_fp8_reaches_the_cutlass_kernels_of_sm120(
    extension: Extension, scales: list[Tensor], expected: str
) -> None:
    extension.capability = (12, 1)
    ends = ["cutlass_scaled_mm_sm120_fp8", "cutlass_scaled_mm_blockwise_sm120_fp8"]
    assert extension.run("cutlass_scaled_mm", [*FP8, *scales, None], ends) == expected
