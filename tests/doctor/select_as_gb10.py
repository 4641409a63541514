"""Run as a program: vLLM's CPU build made to select as its CUDA build would on a GB10; prints `selection`'s
answers. sys.argv[1] says whether FlashInfer is there and able to compile (yes) or not there (no).
"""

import json
import sys

import torch

from helpers import gb10_platform


def main(flashinfer: bool) -> None:
    gb10_platform.install(flashinfer)
    from dgx_vllm.doctor import selection

    torch.set_default_dtype(torch.bfloat16)
    print(json.dumps(selection.answers()))


if __name__ == "__main__":
    main(sys.argv[1] == "yes")
