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
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert

if "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)

TOKENS, HIDDEN, INTERMEDIATE, EXPERTS, TOP_K = 3, 128, 64, 4, 2


def codes(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def scales(*shape: int) -> torch.Tensor:
    return codes(*shape).view(torch.float8_e4m3fn)


def weights(experts: int) -> ExpertWeights:
    return ExpertWeights(
        w13=codes(experts, 2 * INTERMEDIATE, HIDDEN // 2),
        w13_scale=scales(experts, 128, HIDDEN // 16),
        w13_global=torch.ones(experts),
        w2=codes(experts, HIDDEN, INTERMEDIATE // 2),
        w2_scale=scales(experts, 128, INTERMEDIATE // 16),
        w2_global=torch.ones(experts),
    )


def rows(columns: int) -> torch.Tensor:
    return torch.zeros(TOKENS, columns, dtype=torch.bfloat16)


ROUTING = Routing(
    topk_ids=torch.zeros(TOKENS, TOP_K, dtype=torch.int32),
    topk_weights=torch.ones(TOKENS, TOP_K),
    expert_map=torch.zeros(EXPERTS, dtype=torch.int32),
)
SHARED = SharedExpert(weights(1), torch.zeros(HIDDEN, dtype=torch.bfloat16))


@pytest.mark.parametrize("shared", [None, SHARED], ids=["routed", "with the shared expert"])
def test_moe_decode_refuses_tensors_on_the_cpu_and_nothing_else(
    shared: SharedExpert[ExpertWeights] | None,
) -> None:
    """Number, order and types of the arguments are those of the library, or a TypeError would come first."""
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.moe_decode(rows(HIDDEN), rows(HIDDEN), weights(EXPERTS), ROUTING, shared, "silu")


def test_moe_decode_24_refuses_tensors_on_the_cpu_and_nothing_else() -> None:
    tiles = ExpertTiles(
        w13=codes(EXPERTS, 32, 1, 1792),
        w13_global=torch.ones(EXPERTS),
        w2=codes(EXPERTS, 16, 1, 1792),
        w2_global=torch.ones(EXPERTS),
    )
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.moe_decode_24(rows(256), rows(256), tiles, ROUTING, "silu")


def test_compression_refuses_tensors_on_the_cpu_and_nothing_else() -> None:
    weight, scale = codes(EXPERTS, 128, 128), scales(EXPERTS, 128, 16)
    with pytest.raises(ValueError, match="packed must be on a CUDA device"):
        calls.compress_24(weight, scale, True)
    with pytest.raises(ValueError, match="packed must be on a CUDA device"):
        calls.decompress_24(weight, scale, codes(EXPERTS, 8, 1, 1792), False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_benchmark_s_layers_are_refused_for_the_cpu_alone(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    layer_weights = Weights(
        Experts(EXPERTS, HIDDEN, INTERMEDIATE, generator), Experts(1, HIDDEN, 2 * INTERMEDIATE, generator)
    )
    shape = Moe("", HIDDEN, INTERMEDIATE, EXPERTS, TOP_K, 2 * INTERMEDIATE)
    (inputs,) = layer_inputs.draw(shape, TOKENS, 1, overlap=True, device="cpu")
    (layer,) = moe_decode.Prepared(library.load(), layer_weights).layers(case, inputs)
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        layer()


@pytest.mark.parametrize("case", [case for case in CASES if case.swizzled], ids=lambda case: case.name)
def test_the_benchmark_s_sparse_layers_are_refused_for_the_cpu_alone(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    layer_weights = Weights(Experts(EXPERTS, 256, 256, generator), Experts(1, 256, 512, generator))
    (inputs,) = layer_inputs.draw(
        Moe("", 256, 256, EXPERTS, TOP_K, 512), TOKENS, 1, overlap=True, device="cpu"
    )
    (layer,) = moe_decode_24.Prepared(library.load(), layer_weights).layers(case, inputs)
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        layer()


@pytest.mark.parametrize(
    ("kind", "width", "scale"),
    [("NVFP4", HIDDEN // 2, codes(128, HIDDEN // 16)), ("FP8", HIDDEN, torch.ones(128))],
)
def test_the_benchmark_s_projections_are_refused_for_the_cpu_alone(
    kind: linear.Kind, width: int, scale: torch.Tensor
) -> None:
    multiply = linear.LinearDecode(library.load()).prepare(kind, codes(128, width), scale)
    x, out = (torch.zeros(TOKENS, size, dtype=torch.bfloat16) for size in (HIDDEN, 128))
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        multiply(x, out)


def test_linear_decode_fp8_refuses_tensors_on_the_cpu_and_nothing_else() -> None:
    outputs, k = 48, 32
    with pytest.raises(ValueError, match="x must be on a CUDA device"):
        calls.linear_decode_fp8(
            rows(outputs),
            rows(k),
            scales(outputs, k),
            torch.ones(outputs, 1),
            torch.zeros(outputs, dtype=torch.bfloat16),
        )
