"""A small case of each kernel that a layer calls, for compute-sanitizer.

In this folder: PYTHONPATH=../python python bench/small.py LIBRARY
"""

import sys

import torch
import tvm_ffi

from dgx_vllm.kernels import abi
from dgx_vllm.kernels.library import Library
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert

# tokens, hidden, intermediate, shared intermediate, swizzled scales: slices of K with a rest, an odd half,
# many rows, two warps; then whole slices, which have kernels of their own
CASES = (
    (1, 1152, 128, 128, True),
    (3, 1088, 64, 128, False),
    (10, 128, 640, 128, True),
    (2, 2368, 64, 64, True),
    (1, 1024, 256, 512, True),
    (4, 512, 512, 256, True),
    (9, 512, 256, 256, True),
)
# The same of 2:4: experts are chosen more than once; kernels of few tokens, and the others.
SPARSE_CASES = (
    (1, 1280, 256, 256, True),
    (2, 512, 512, 256, True),
    (3, 256, 512, 256, False),
    (10, 256, 256, 512, True),
)
EXPERTS, TOP_K, ROWS = 4, 2, 128


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8).cuda()


def scales(*shape: int) -> torch.Tensor:
    return torch.randint(0x30, 0x50, shape, dtype=torch.uint8).cuda()


def floats(*shape: int) -> torch.Tensor:
    return torch.rand(*shape).cuda()


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype).cuda()


def experts(count: int, hidden: int, intermediate: int) -> ExpertWeights:
    return ExpertWeights(
        w13=codes(count, 2 * intermediate, hidden // 2),
        w13_scale=scales(count, 2 * intermediate, hidden // 16),
        w13_global=floats(count),
        w2=codes(count, hidden, intermediate // 2),
        w2_scale=scales(count, hidden, intermediate // 16),
        w2_global=floats(count),
    )


def in_tiles(kernels: Library, count: int, hidden: int, intermediate: int, swizzled: bool) -> ExpertTiles:
    """What compress_24 makes of random weights, sparse or not; taken apart again too."""

    def tiles(rows: int, k: int, halves: bool) -> torch.Tensor:
        packed, scale = codes(count, rows, k // 2), scales(count, rows, k // 16)
        compressed = empty(count, rows // 16, k // 256, 1792, dtype=torch.uint8)
        violations = empty(count, dtype=torch.int32)
        abi.compress_24(compressed, violations, packed, scale, halves=halves, swizzled=swizzled)(kernels)
        abi.decompress_24(packed, scale, compressed, halves=halves, swizzled=swizzled)(kernels)
        return compressed

    w13, w2 = tiles(2 * intermediate, hidden, True), tiles(hidden, intermediate, False)
    return ExpertTiles(w13, floats(count), w2, floats(count))


def workspace(kernels: Library, tokens: int, intermediate: int, shared: int) -> torch.Tensor:
    return empty(abi.moe_decode_workspace(tokens, TOP_K, intermediate, shared)(kernels))


def gate(hidden: int) -> torch.Tensor:
    return (torch.randn(hidden) / hidden**0.5).bfloat16().cuda()


def run_sparse(
    kernels: Library, tokens: int, hidden: int, intermediate: int, shared: int, swizzled: bool
) -> None:
    x = torch.randn(tokens, hidden).bfloat16().cuda()
    ids = torch.randint(0, EXPERTS, (tokens, TOP_K), dtype=torch.int32).cuda()
    abi.moe_decode_24(
        torch.zeros_like(x),
        x,
        in_tiles(kernels, EXPERTS, hidden, intermediate, swizzled),
        Routing(ids, floats(tokens, TOP_K)),
        SharedExpert(in_tiles(kernels, 1, hidden, shared, swizzled), gate(hidden)),
        workspace(kernels, tokens, intermediate, shared),
        "silu",
    )(kernels)


def run(kernels: Library, tokens: int, hidden: int, intermediate: int, shared: int, swizzled: bool) -> None:
    x = torch.randn(tokens, hidden).bfloat16().cuda()
    ids = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(tokens)]).int().cuda()
    routing = Routing(ids, floats(tokens, TOP_K))

    def moe(activation: str, shared_gate: torch.Tensor | None, *, swizzled: bool, up_first: bool) -> None:
        abi.moe_decode(
            torch.zeros_like(x),
            x,
            experts(EXPERTS, hidden, intermediate),
            routing,
            SharedExpert(experts(1, hidden, shared), shared_gate),
            workspace(kernels, tokens, intermediate, shared),
            activation,
            swizzled=swizzled,
            up_first=up_first,
        )(kernels)

    moe("silu", gate(hidden), swizzled=False, up_first=False)
    if swizzled and hidden % 128 == 0 and intermediate % 128 == 0:  # no padding, so that the shapes agree
        moe("gelu", None, swizzled=True, up_first=True)
    out = empty(tokens, ROWS)
    weight, scale = codes(ROWS, hidden // 2), scales(ROWS, hidden // 16)
    abi.linear_decode_nvfp4(out, x, weight, scale, floats(1), swizzled=swizzled)(kernels)
    for shape in ((1,), (ROWS,), (1, -(-hidden // 128))):
        abi.linear_decode_fp8(out, x, codes(ROWS, hidden), floats(*shape))(kernels)
    packed, block_scales = (
        empty(*s, dtype=torch.uint8) for s in ((tokens, hidden // 2), (128, hidden // 16))
    )
    abi.quantize_nvfp4(packed, block_scales, x, torch.ones(1).cuda())(kernels)


def main() -> None:
    kernels = tvm_ffi.load_module(sys.argv[1])
    for case in CASES:
        run(kernels, *case)
    for case in SPARSE_CASES:
        run_sparse(kernels, *case)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
