"""Measuring dense projections: linear_decode, compared with Marlin's product."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from dgx_vllm.bench_kernels import marlin, timing
from dgx_vllm.bench_kernels.measurements import Row, Timed
from dgx_vllm.bench_kernels.random_experts import swizzle
from dgx_vllm.bench_kernels.shapes import Linear
from dgx_vllm.kernels import abi
from dgx_vllm.kernels.library import Library

Kind = Literal["NVFP4", "FP8"]

#: A projection is copied until the copies hold so many bytes, more than L2 does, but not more than 48 times.
_BYTES, _COPIES = 400 << 20, 48

#: Computes out [tokens, rows] from x [tokens, k], both bfloat16.
Multiply = Callable[[Tensor, Tensor], object]


class Product(Protocol):
    """One way to multiply by a projection."""

    name: str
    kinds: tuple[Kind, ...]

    def prepare(self, kind: Kind, weight: Tensor, scale: Tensor) -> Multiply:
        """The multiplication by one weight.

        Args:
            weight: uint8 [rows, k / 2] for NVFP4, [rows, k] for FP8.
            scale: uint8 [rows, k / 16], E4M3, for NVFP4; float32 [rows] for FP8.
        """


class LinearDecode:
    """`kernels/linear_decode.cu`."""

    name = "linear_decode"
    kinds: tuple[Kind, ...] = ("NVFP4", "FP8")

    def __init__(self, library: Library) -> None:
        self.library = library

    def prepare(self, kind: Kind, weight: Tensor, scale: Tensor) -> Multiply:
        if kind == "FP8":
            return lambda x, out: abi.linear_decode_fp8(out, x, weight, scale)(self.library)
        one, swizzled = torch.ones(1, device=weight.device), swizzle(scale[None])[0]
        return lambda x, out: abi.linear_decode_nvfp4(out, x, weight, swizzled, one)(self.library)


class MarlinProduct:
    """vLLM's dense Marlin; its modules are loaded."""

    name = "Marlin"
    kinds: tuple[Kind, ...] = ("NVFP4",)

    def prepare(self, kind: Kind, weight: Tensor, scale: Tensor) -> Multiply:
        matrices = marlin.Matrices(weight[None], scale[None], torch.ones(1, device=weight.device))
        workspace = marlin.locks(weight.device)
        return lambda x, out: marlin.dense(x, matrices, workspace)


def measure(
    product: Product, shape: Linear, tokens: Sequence[int], read_gbps: float, say: Callable[[Row], None]
) -> Iterator[Timed]:
    """Times a projection in each format; tests/kernels checks what ours computes.

    Args:
        tokens, read_gbps, say: as for `moe.measure`.
    """
    for kind in product.kinds:
        weight, scale = _weight(kind, shape)
        size = weight.numel() + scale.numel() * scale.element_size()
        copies = max(2, min(_COPIES, _BYTES // weight.numel()))
        products = [product.prepare(kind, weight.clone(), scale.clone()) for _ in range(copies)]
        for count in tokens:
            x = torch.randn(count, shape.k, device="cuda").bfloat16()
            out = torch.empty(count, shape.rows, dtype=torch.bfloat16, device="cuda")
            us = timing.each([partial(multiply, x, out) for multiply in products], 15)
            gbps = size / us / 1e3
            row = Row(f"{product.name}, {kind}", shape.name, count, us, gbps, gbps / read_gbps)
            say(row)
            yield Timed(product.name, kind, row)


def _weight(kind: Kind, shape: Linear) -> tuple[Tensor, Tensor]:
    def drawn(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high, size, dtype=torch.uint8, device="cuda")

    if kind == "FP8":  # no NaN among the codes
        return drawn(0, 0x7E, shape.rows, shape.k), torch.rand(shape.rows, device="cuda")
    return drawn(0, 256, shape.rows, shape.k // 2), drawn(0x30, 0x58, shape.rows, shape.k // 16)
