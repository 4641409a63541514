"""A small case of every kernel, for compute-sanitizer: python bench/small.py LIBRARY"""

import sys

import torch
import tvm_ffi

# tokens, hidden, intermediate, shared intermediate, swizzled scales: slices of K with a rest, an odd half,
# many rows; then whole slices, which have kernels of their own
CASES = (
    (1, 1152, 128, 128, True),
    (3, 1088, 64, 128, False),
    (10, 128, 640, 128, True),
    (1, 1024, 256, 512, True),
    (2, 512, 512, 256, True),
    (9, 512, 256, 256, True),
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


def run(kernels, tokens: int, hidden: int, intermediate: int, shared: int, swizzled: bool) -> None:
    x = torch.randn(tokens, hidden).bfloat16().cuda()
    ids = torch.stack([torch.randperm(EXPERTS)[:TOP_K] for _ in range(tokens)]).int().cuda()
    workspace = empty(tokens * (TOP_K * intermediate + shared))

    def moe(activation: str, gate: torch.Tensor | None, *flags: bool) -> None:
        kernels.moe_decode(
            *(torch.zeros_like(x), x, *experts(EXPERTS, hidden, intermediate), ids, floats(tokens, TOP_K)),
            *(None, *experts(1, hidden, shared), gate, workspace, activation, *flags),
        )

    # swizzled, up_first, weight_on_input, shared_gate_logit, overlap
    moe("silu", floats(tokens), False, False, False, True, True)
    if swizzled and hidden % 128 == 0 and intermediate % 128 == 0:  # no padding, so that the shapes agree
        moe("gelu", None, True, True, False, True, True)
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
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
