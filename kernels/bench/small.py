"""A small case of each kernel that a layer calls, for compute-sanitizer: python bench/small.py LIBRARY"""

import sys

import torch
import tvm_ffi

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


def experts(count: int, hidden: int, intermediate: int) -> list[torch.Tensor]:
    gate_up = codes(count, 2 * intermediate, hidden // 2), scales(count, 2 * intermediate, hidden // 16)
    down = codes(count, hidden, intermediate // 2), scales(count, hidden, intermediate // 16)
    return [*gate_up, floats(count), *down, floats(count)]


def in_tiles(kernels, count: int, hidden: int, intermediate: int, swizzled: bool) -> list[torch.Tensor]:
    """What compress_24 makes of random weights, sparse or not; taken apart again too."""
    out = []
    for rows, k, halves in ((2 * intermediate, hidden, True), (hidden, intermediate, False)):
        packed, scale = codes(count, rows, k // 2), scales(count, rows, k // 16)
        tiles = empty(count, rows // 16, k // 256, 1792, dtype=torch.uint8)
        violations = empty(count, dtype=torch.int32)
        kernels.compress_24(tiles, violations, packed, scale, halves, swizzled)
        kernels.decompress_24(packed, scale, tiles, halves, swizzled)
        out += [tiles, floats(count)]
    return out


def gate(hidden: int) -> torch.Tensor:
    return (torch.randn(hidden) / hidden**0.5).bfloat16().cuda()


def run_sparse(kernels, tokens: int, hidden: int, intermediate: int, shared: int, swizzled: bool) -> None:
    x = torch.randn(tokens, hidden).bfloat16().cuda()
    ids = torch.randint(0, EXPERTS, (tokens, TOP_K), dtype=torch.int32).cuda()
    workspace = empty(tokens * (TOP_K * intermediate + shared))
    routed = in_tiles(kernels, EXPERTS, hidden, intermediate, swizzled)
    # weight_on_input, overlap
    kernels.moe_decode_24(
        *(torch.zeros_like(x), x, *routed, ids, floats(tokens, TOP_K), None),
        *(
            *in_tiles(kernels, 1, hidden, shared, swizzled),
            gate(hidden),
            workspace,
            "silu",
            False,
            True,
        ),
    )


def run(kernels, tokens: int, hidden: int, intermediate: int, shared: int, swizzled: bool) -> None:
    x = torch.randn(tokens, hidden).bfloat16().cuda()
    ids = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(tokens)]).int().cuda()
    workspace = empty(tokens * (TOP_K * intermediate + shared))

    def moe(activation: str, shared_gate: torch.Tensor | None, *flags: bool) -> None:
        kernels.moe_decode(
            *(torch.zeros_like(x), x, *experts(EXPERTS, hidden, intermediate), ids, floats(tokens, TOP_K)),
            *(None, *experts(1, hidden, shared), shared_gate, workspace, activation, *flags),
        )

    # swizzled, up_first, weight_on_input, overlap
    moe("silu", gate(hidden), False, False, False, True)
    if swizzled and hidden % 128 == 0 and intermediate % 128 == 0:  # no padding, so that the shapes agree
        moe("gelu", None, True, True, False, True)
    out = empty(tokens, ROWS)
    kernels.linear_decode_nvfp4(
        out, x, codes(ROWS, hidden // 2), scales(ROWS, hidden // 16), floats(1), None, swizzled, True
    )
    for shape in ((1,), (ROWS,), (1, -(-hidden // 128))):
        kernels.linear_decode_fp8(out, x, codes(ROWS, hidden), floats(*shape), None, True)
    packed = empty(tokens, hidden // 2, dtype=torch.uint8)
    kernels.quantize_nvfp4(packed, empty(128, hidden // 16, dtype=torch.uint8), x, torch.ones(1).cuda(), True)


def main() -> None:
    kernels = tvm_ffi.load_module(sys.argv[1])
    for case in CASES:
        run(kernels, *case)
    for case in SPARSE_CASES:
        run_sparse(kernels, *case)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
