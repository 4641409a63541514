"""A small case of every kernel, for compute-sanitizer: python bench/small.py LIBRARY"""

import sys

import torch
import tvm_ffi

kernels = tvm_ffi.load_module(sys.argv[1])


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8).cuda()


def scales(*shape: int) -> torch.Tensor:
    return torch.randint(0x30, 0x50, shape, dtype=torch.uint8).cuda()


def experts(count: int, h: int, i: int) -> list:
    return [codes(count, 2 * i, h // 2), scales(count, 2 * i, h // 16), torch.rand(count).cuda(), codes(count, h, i // 2),
            scales(count, h, i // 16), torch.rand(count).cuda()]  # fmt: skip


for tokens, h, i, swizzled in ((1, 1152, 128, True), (3, 1088, 64, False), (10, 128, 640, True)):
    x = torch.randn(tokens, h).bfloat16().cuda()
    out = torch.zeros_like(x)
    ids = torch.stack([torch.randperm(4)[:2] for _ in range(tokens)]).int().cuda()
    workspace = torch.zeros(tokens * (2 * i + 128), dtype=torch.bfloat16).cuda()
    kernels.moe_decode(out, x, *experts(4, h, i), ids, torch.rand(tokens, 2).cuda(), None, *experts(1, h, 128), torch.rand(tokens).cuda(),
                       workspace, "silu", False, False, False, True, True)  # fmt: skip
    if swizzled and h % 128 == 0 and i % 128 == 0:
        kernels.moe_decode(out, x, *experts(4, h, i), ids, torch.rand(tokens, 2).cuda(), None, *experts(1, h, 128), None, workspace,
                           "gelu", True, True, False, True, True)  # fmt: skip
    y = torch.zeros(tokens, 128, dtype=torch.bfloat16).cuda()
    kernels.linear_decode_nvfp4(
        y, x, codes(128, h // 2), scales(128, h // 16), torch.rand(1).cuda(), None, swizzled, True
    )
    for shape in ((1,), (128,), (1, -(-h // 128))):
        kernels.linear_decode_fp8(y, x, codes(128, h), torch.rand(*shape).cuda(), None, True)
    packed, block = (
        torch.zeros(tokens, h // 2, dtype=torch.uint8).cuda(),
        torch.zeros(128, h // 16, dtype=torch.uint8).cuda(),
    )
    kernels.quantize_nvfp4(packed, block, x, torch.ones(1).cuda(), True)
torch.cuda.synchronize()
