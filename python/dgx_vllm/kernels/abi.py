"""Calls of the library's functions: what their arguments are called, and in which order they come.

There is one function for each function of the library. It returns a call, which runs when it is given the
library: `abi.linear_decode_fp8(out, x, weight, scale)(library.load())`. kernels/README.md describes the
arguments, and tests/kernels/test_abi.py compares names and order with the C++ signatures.
"""

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from dgx_vllm.kernels.library import Library
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert, Weights


@dataclass(frozen=True)
class Call:
    """A function of the library with its arguments.

    Attributes:
        function: its name.
        arguments: by name, in the function's order.
    """

    function: str
    arguments: dict[str, Any]

    def __call__(self, library: Library) -> Any:
        """Calls it, and returns what it returns."""
        return getattr(library, self.function)(*self.arguments.values())


def moe_decode(
    out: Tensor,
    x: Tensor,
    routed: ExpertWeights,
    routing: Routing,
    shared: SharedExpert[ExpertWeights] | None,
    workspace: Tensor,
    activation: str,
    *,
    swizzled: bool = True,
    up_first: bool = False,
    weight_on_input: bool = False,
    overlap: bool = True,
) -> Call:
    """The weighted sum of a layer's routed experts, and its shared expert."""
    return Call(
        "moe_decode",
        {
            "out": out,
            "x": x,
            **_by_name(routed),
            **_by_name(routing),
            **_shared_by_name(ExpertWeights, shared),
            "workspace": workspace,
            "activation": activation,
            "swizzled": swizzled,
            "up_first": up_first,
            "weight_on_input": weight_on_input,
            "overlap": overlap,
        },
    )


def moe_decode_24(
    out: Tensor,
    x: Tensor,
    routed: ExpertTiles,
    routing: Routing,
    shared: SharedExpert[ExpertTiles] | None,
    workspace: Tensor,
    activation: str,
    *,
    weight_on_input: bool = False,
    overlap: bool = True,
) -> Call:
    """The same of 2:4 weights in tiles."""
    return Call(
        "moe_decode_24",
        {
            "out": out,
            "x": x,
            **_by_name(routed),
            **_by_name(routing),
            **_shared_by_name(ExpertTiles, shared),
            "workspace": workspace,
            "activation": activation,
            "weight_on_input": weight_on_input,
            "overlap": overlap,
        },
    )


def moe_decode_workspace(tokens: int, top_k: int, intermediate: int, shared_intermediate: int) -> Call:
    """Values of bfloat16 that the workspace of the two functions above holds.

    Args:
        tokens: number of tokens.
        top_k: routed experts of a token.
        intermediate: size of the routed experts.
        shared_intermediate: size of the shared expert, 0 without one.
    """
    return Call(
        "moe_decode_workspace",
        {
            "tokens": tokens,
            "top_k": top_k,
            "intermediate": intermediate,
            "shared_intermediate": shared_intermediate,
        },
    )


def linear_decode_nvfp4(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    global_scale: Tensor,
    bias: Tensor | None = None,
    *,
    swizzled: bool = True,
    overlap: bool = True,
) -> Call:
    """A linear layer on NVFP4 weights."""
    return Call(
        "linear_decode_nvfp4",
        {
            "out": out,
            "x": x,
            "weight": weight,
            "scale": scale,
            "global_scale": global_scale,
            "bias": bias,
            "swizzled": swizzled,
            "overlap": overlap,
        },
    )


def linear_decode_fp8(
    out: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None, *, overlap: bool = True
) -> Call:
    """A linear layer on FP8 weights."""
    return Call(
        "linear_decode_fp8",
        {"out": out, "x": x, "weight": weight, "scale": scale, "bias": bias, "overlap": overlap},
    )


def compress_24(
    tiles: Tensor, violations: Tensor, packed: Tensor, scales: Tensor, *, halves: bool, swizzled: bool = True
) -> Call:
    """Writes `tiles` from NVFP4 weights, and adds to `violations`."""
    return Call(
        "compress_24",
        {
            "tiles": tiles,
            "violations": violations,
            "packed": packed,
            "scales": scales,
            "halves": halves,
            "swizzled": swizzled,
        },
    )


def decompress_24(
    packed: Tensor, scales: Tensor, tiles: Tensor, *, halves: bool, swizzled: bool = True
) -> Call:
    """Writes `packed` and `scales` from `tiles`."""
    return Call(
        "decompress_24",
        {"packed": packed, "scales": scales, "tiles": tiles, "halves": halves, "swizzled": swizzled},
    )


def quantize_nvfp4(
    packed: Tensor, scales: Tensor, x: Tensor, global_scale: Tensor, *, swizzled: bool = True
) -> Call:
    """Writes `packed` and `scales` from the values of `x`."""
    return Call(
        "quantize_nvfp4",
        {"packed": packed, "scales": scales, "x": x, "global_scale": global_scale, "swizzled": swizzled},
    )


def convert_e2m1(codes: Tensor, x: Tensor, *, software: bool) -> Call:
    """Writes the E2M1 code of each value of `x`."""
    return Call("convert_e2m1", {"codes": codes, "x": x, "software": software})


def _by_name(group: ExpertWeights | ExpertTiles | Routing) -> dict[str, Any]:
    """A group of tensors in the order in which all functions take them."""
    return {field.name: getattr(group, field.name) for field in fields(group)}


def _shared_by_name(kind: type[Weights], shared: SharedExpert[Weights] | None) -> dict[str, Any]:
    """The shared expert's tensors, or None for each."""
    if shared is None:
        return {f"shared_{name}": None for name in (*(field.name for field in fields(kind)), "gate")}
    weights = {f"shared_{name}": tensor for name, tensor in _by_name(shared.weights).items()}
    return {**weights, "shared_gate": shared.gate}
