"""The compiled library takes the calls of our Python: it refuses them for the right reason.

DGX_VLLM_KERNELS_LIBRARY names a library for this machine's processor. No GPU is needed, and none is used.
"""

import os

import pytest
import torch

from dgx_vllm.bench_kernels import layer_inputs, linear, moe_decode, moe_decode_24
from dgx_vllm.bench_kernels.implementation import CASES, Case
from dgx_vllm.bench_kernels.random_experts import Experts, Weights
from dgx_vllm.bench_kernels.shapes import Moe
from dgx_vllm.kernels import calls, library

if "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)

TOKENS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 3, 128, 64, 4, 2


def codes(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def scales(*shape: int) -> torch.Tensor:
    return codes(*shape).view(torch.float8_e4m3fn)


SHARED = [
    *(codes(1, 2 * INTERMEDIATE, HIDDEN // 2), scales(1, 128, HIDDEN // 16), torch.ones(1)),
    *(codes(1, HIDDEN, INTERMEDIATE // 2), scales(1, 128, INTERMEDIATE // 16), torch.ones(1)),
]


@pytest.mark.parametrize("shared", [[], SHARED], ids=["routed", "with the shared expert"])
def test_what_is_wrong_with_a_call_is_that_its_tensors_are_on_the_cpu(shared: list[torch.Tensor]) -> None:
    """Number, order and types of the arguments are those of the library, or a TypeError would come first."""
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.moe_decode(
            torch.zeros(TOKENS, HIDDEN, dtype=torch.bfloat16),
            torch.zeros(TOKENS, HIDDEN, dtype=torch.bfloat16),
            codes(EXPERTS, 2 * INTERMEDIATE, HIDDEN // 2),
            scales(EXPERTS, 128, HIDDEN // 16),
            torch.ones(EXPERTS),
            codes(EXPERTS, HIDDEN, INTERMEDIATE // 2),
            scales(EXPERTS, 128, INTERMEDIATE // 16),
            torch.ones(EXPERTS),
            torch.zeros(TOKENS, TOP_K, dtype=torch.int32),
            torch.ones(TOKENS, TOP_K),
            torch.zeros(EXPERTS, dtype=torch.int32),
            shared,
            torch.zeros(HIDDEN, dtype=torch.bfloat16) if shared else None,
            "silu",
        )


def test_so_it_is_with_sparse_weights() -> None:
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.moe_decode_24(
            torch.zeros(TOKENS, 256, dtype=torch.bfloat16),
            torch.zeros(TOKENS, 256, dtype=torch.bfloat16),
            codes(EXPERTS, 32, 1, 1792),
            torch.ones(EXPERTS),
            codes(EXPERTS, 16, 1, 1792),
            torch.ones(EXPERTS),
            torch.zeros(TOKENS, TOP_K, dtype=torch.int32),
            torch.ones(TOKENS, TOP_K),
            torch.zeros(EXPERTS, dtype=torch.int32),
            "silu",
        )


def test_so_it_is_with_compression() -> None:
    weight, scale = codes(EXPERTS, 128, 128), scales(EXPERTS, 128, 16)
    with pytest.raises(ValueError, match="packed must be on a CUDA device"):
        calls.compress_24(weight, scale, True)
    with pytest.raises(ValueError, match="packed must be on a CUDA device"):
        calls.decompress_24(weight, scale, codes(EXPERTS, 8, 1, 1792), False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_so_it_is_with_the_benchmark_s_layers(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = Weights(
        Experts(EXPERTS, HIDDEN, INTERMEDIATE, generator), Experts(1, HIDDEN, 2 * INTERMEDIATE, generator)
    )
    shape = Moe("", HIDDEN, INTERMEDIATE, EXPERTS, TOP_K, 2 * INTERMEDIATE)
    (given,) = layer_inputs.draw(shape, TOKENS, 1, overlap=True, device="cpu")
    (layer,) = moe_decode.Prepared(library.load(), weights).layers(case, given)
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        layer()


@pytest.mark.parametrize("case", [case for case in CASES if case.swizzled], ids=lambda case: case.name)
def test_and_with_those_of_sparse_weights(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = Weights(Experts(EXPERTS, 256, 256, generator), Experts(1, 256, 512, generator))
    (given,) = layer_inputs.draw(
        Moe("", 256, 256, EXPERTS, TOP_K, 512), TOKENS, 1, overlap=True, device="cpu"
    )
    (layer,) = moe_decode_24.Prepared(library.load(), weights).layers(case, given)
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        layer()


@pytest.mark.parametrize(
    ("kind", "width", "scale"),
    [("NVFP4", HIDDEN // 2, codes(128, HIDDEN // 16)), ("FP8", HIDDEN, torch.ones(128))],
)
def test_and_with_its_projections(kind: linear.Kind, width: int, scale: torch.Tensor) -> None:
    multiply = linear.LinearDecode(library.load()).prepare(kind, codes(128, width), scale)
    x, out = (torch.zeros(TOKENS, size, dtype=torch.bfloat16) for size in (HIDDEN, 128))
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        multiply(x, out)


def test_the_same_of_a_linear_layer_in_fp8() -> None:
    rows, k = 48, 32
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.linear_decode_fp8(
            torch.zeros(TOKENS, rows, dtype=torch.bfloat16),
            torch.zeros(TOKENS, k, dtype=torch.bfloat16),
            scales(rows, k),
            torch.ones(rows, 1),
            torch.zeros(rows, dtype=torch.bfloat16),
        )
