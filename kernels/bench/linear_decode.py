"""linear_decode on a GPU, in CUDA graphs over more weights than L2 holds: python bench/linear_decode.py LIBRARY BOUNDS_LIBRARY"""

import sys

import torch
import tvm_ffi
from moe_decode import graph_of, microseconds

# name, rows, k
SHAPES = [("o_proj", 2048, 4096), ("in_proj_qkvz", 12288, 2048), ("lm_head", 151936, 2048)]


def main() -> None:
    library, bounds = tvm_ffi.load_module(sys.argv[1]), tvm_ffi.load_module(sys.argv[2])
    buffer, sink = (
        torch.randint(0, 255, (2 << 30,), dtype=torch.uint8, device="cuda"),
        torch.zeros(1, dtype=torch.int32, device="cuda"),
    )
    read_gbs = buffer.numel() / microseconds(graph_of([lambda: bounds.stream_read(buffer, sink)]), 8) / 1e3
    del buffer
    print(f"{torch.cuda.get_device_name()}: streaming read {read_gbs:.0f} GB/s")
    for name, rows, k in SHAPES:
        for kind in ("nvfp4", "fp8"):
            width, extra = (k // 2, rows * k // 16) if kind == "nvfp4" else (k, 4 * rows)
            copies = max(2, min(48, (400 << 20) // (rows * width)))
            weights = [
                torch.randint(0, 0x7E, (rows, width), dtype=torch.uint8, device="cuda") for _ in range(copies)
            ]
            scales = [torch.randint(0x30, 0x58, (-(-rows // 128) * 128, k // 16), dtype=torch.uint8, device="cuda") if kind == "nvfp4"
                      else torch.rand(rows, device="cuda") for _ in range(copies)]  # fmt: skip
            one = torch.ones(1, device="cuda")
            for tokens in (1, 4, 8, 16):
                x = torch.randn(tokens, k, device="cuda").bfloat16()
                out = torch.empty(tokens, rows, dtype=torch.bfloat16, device="cuda")

                def call(w, s, x=x, out=out, kind=kind, one=one):
                    if kind == "nvfp4":
                        library.linear_decode_nvfp4(out, x, w, s, one, None, True, True)
                    else:
                        library.linear_decode_fp8(out, x, w, s, None, True)

                us = (
                    microseconds(
                        graph_of([lambda w=w, s=s: call(w, s) for w, s in zip(weights, scales, strict=True)]),
                        15,
                    )
                    / copies
                )
                gbs = (rows * width + extra) / us / 1e3
                print(
                    f"{name:<14} {kind:<6} M={tokens:<3} {us:8.2f} us  {gbs:6.0f} GB/s  {gbs / read_gbs:6.1%} of read"
                )


if __name__ == "__main__":
    main()
