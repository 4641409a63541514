"""What the compiled library refuses, and that it takes the rest: by tensors without memory, and no GPU.

A call whose arguments are right gets as far as the CUDA runtime, which finds no GPU. DGX_VLLM_KERNELS_LIBRARY
names a library for this machine's processor.
"""

import os
from typing import Any

import pytest
import torch
from claimed import BFLOAT16, FLOAT16, FLOAT32, INT32, INT64, UINT8, Claimed

from dgx_vllm.kernels import abi, library
from dgx_vllm.kernels.abi import Call
from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_EXPERTS_PER_TOKEN, MAX_HIDDEN, MAX_TOKENS
from dgx_vllm.kernels.moe_layer import ExpertTiles, ExpertWeights, Routing, SharedExpert

if "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("would launch kernels on memory that is not there", allow_module_level=True)

#: Other values for some arguments, and what the refusal says.
Refusals = dict[str, tuple[dict[str, Any], str]]


def run(call: Call) -> None:
    import tvm_ffi

    tensors = {
        name: tvm_ffi.from_dlpack(value) if isinstance(value, Claimed) else value
        for name, value in call.arguments.items()
    }
    Call(call.function, tensors)(library.load())


def taken(call: Call) -> None:
    """Nothing is wrong with a call but that there is no GPU."""
    with pytest.raises(RuntimeError, match=r"(?i)cuda.*(driver|device)"):
        run(call)


def refused(call: Call, message: str, **changes: Any) -> None:
    """Refused with other values for some of its arguments."""
    assert set(changes) <= set(call.arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        run(Call(call.function, call.arguments | changes))


def both(*shape: int) -> dict[str, Any]:
    """Another x, and an output of its shape."""
    return {"out": Claimed(shape, BFLOAT16), "x": Claimed(shape, BFLOAT16)}


def moe(
    tokens: int = 2,
    hidden: int = 192,
    intermediate: int = 64,
    count: int = 5,
    top_k: int = 3,
    shared: int = 0,
    device: int = 0,
) -> Call:
    def t(shape: tuple[int, ...], dtype: tuple[int, int]) -> Any:
        return Claimed(shape, dtype, device)

    def experts(number: int, size: int) -> ExpertWeights:
        return ExpertWeights(
            w13=t((number, 2 * size, hidden // 2), UINT8),
            w13_scale=t((number, 2 * size, hidden // 16), UINT8),
            w13_global=t((number,), FLOAT32),
            w2=t((number, hidden, size // 2), UINT8),
            w2_scale=t((number, hidden, size // 16), UINT8),
            w2_global=t((number,), FLOAT32),
        )

    return abi.moe_decode(
        out=t((tokens, hidden), BFLOAT16),
        x=t((tokens, hidden), BFLOAT16),
        routed=experts(count, intermediate),
        routing=Routing(t((tokens, top_k), INT32), t((tokens, top_k), FLOAT32)),
        shared=SharedExpert(experts(1, shared), t((hidden,), BFLOAT16)) if shared else None,
        workspace=t((tokens * (top_k * intermediate + shared),), BFLOAT16),
        activation="silu",
        swizzled=False,
    )


@pytest.mark.parametrize("device", [0, 1])
def test_a_moe_layer_is_taken(device: int) -> None:
    taken(moe(device=device))
    taken(moe(shared=128, device=device))


@pytest.mark.parametrize(
    "sizes",
    [
        {"tokens": MAX_TOKENS},
        {"hidden": MAX_HIDDEN},
        {"hidden": DIM_MULTIPLE, "intermediate": DIM_MULTIPLE},
        {"top_k": MAX_EXPERTS_PER_TOKEN},
        {"hidden": MAX_HIDDEN, "intermediate": (2**31 - 1) // MAX_HIDDEN // DIM_MULTIPLE * DIM_MULTIPLE},
    ],
    ids=str,
)
def test_what_the_plugin_takes_the_library_takes(sizes: dict[str, int]) -> None:
    taken(moe(**sizes))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tokens": MAX_TOKENS + 1}, "x must have 1 to 16 rows, not 17"),
        ({"tokens": 0}, "x must have 1 to 16 rows, not 0"),
        ({"hidden": MAX_HIDDEN + DIM_MULTIPLE}, "hidden size must be at most 16384, not 16448"),
        ({"hidden": DIM_MULTIPLE // 2}, "hidden size must be a positive multiple of 64, not 32"),
        ({"intermediate": 96}, "intermediate size must be a positive multiple of 64, not 96"),
        ({"top_k": MAX_EXPERTS_PER_TOKEN + 1}, "top_k must be 1 to 32, not 33"),
        ({"hidden": MAX_HIDDEN, "intermediate": 2**17}, "w13 must be smaller than 2 GiB"),
        ({"intermediate": 2**32 + 64}, "w13 must be smaller than 2 GiB"),
    ],
    ids=str,
)
def test_other_sizes_are_refused(sizes: dict[str, int], message: str) -> None:
    refused(moe(**sizes), message)


MOE: Refusals = {
    "float x": ({"x": Claimed((2, 192), FLOAT32)}, "x must be bfloat16, not float32"),
    "x of one dimension": (
        {"x": Claimed((192,), BFLOAT16)},
        r"x must have shape \[tokens, hidden\]",
    ),
    "x by columns": ({"x": Claimed((2, 192), BFLOAT16, strides=(1, 2))}, "contiguous rows"),
    "x's rows apart": (
        {"x": Claimed((2, 192), BFLOAT16, strides=(196, 1))},
        "multiples of 16 bytes",
    ),
    "x not aligned": (
        {"x": Claimed((2, 192), BFLOAT16, address=1032)},
        "x must start at a multiple",
    ),
    "another hidden size": (both(2, 128), r"w13 must have shape \[5, 128, 64\]"),
    "w13 not aligned": (
        {"w13": Claimed((5, 128, 96), UINT8, address=1032)},
        "w13 must start at a mult",
    ),
    "w13 elsewhere": (
        {"w13": Claimed((5, 128, 96), UINT8, device=1)},
        "first tensor, cuda:0, not cuda:1",
    ),
    "w2 not contiguous": (
        {"w2": Claimed((5, 192, 32), UINT8, strides=(12288, 64, 1))},
        "w2 must be contig",
    ),
    "scales called swizzled": ({"swizzled": True}, r"w2_scale must have shape \[5, 256, 4\]"),
    "gate and up and more": (
        {"w13_global": Claimed((5, 3), FLOAT32)},
        r"\[experts\] or \[experts, 1 or 2\]",
    ),
    "no experts": ({"w13": Claimed((0, 128, 96), UINT8)}, "w13 must hold 1 to"),
    "wide ids": ({"topk_ids": Claimed((2, 3), INT64)}, "topk_ids must be int32, not int64"),
    "ids of other tokens": (
        {"topk_ids": Claimed((3, 3), INT32)},
        r"topk_ids must have shape \[2, 3\]",
    ),
    "half of a shared expert": ({"shared_w13": Claimed((1, 128, 96), UINT8)}, "six tensors"),
    "a gate for nothing": (
        {"shared_gate": Claimed((192,), BFLOAT16)},
        "shared_gate must come with",
    ),
    "small workspace": (
        {"workspace": Claimed((8,), BFLOAT16)},
        "workspace must hold 384 values",
    ),
    "activation": ({"activation": "relu"}, "silu, gelu or gelu_tanh, not relu"),
    "output's shape": (
        {"out": Claimed((1, 192), BFLOAT16)},
        r"out must have shape \[2, 192\]",
    ),
}


@pytest.mark.parametrize("name", MOE)
def test_moe_decode_refuses(name: str) -> None:
    changes, message = MOE[name]
    refused(moe(), message, **changes)


def linear(k: int = 256, rows: int = 256, *, fp8: bool, scale: tuple[int, ...] | None = None) -> Call:
    out: Any = Claimed((2, rows), BFLOAT16)
    x: Any = Claimed((2, k), BFLOAT16)
    if fp8:
        weight: Any = Claimed((rows, k), UINT8)
        scales: Any = Claimed(scale or (rows, 1), FLOAT32)
        return abi.linear_decode_fp8(out, x, weight, scales)
    packed: Any = Claimed((rows, k // 2), UINT8)
    block_scales: Any = Claimed((rows, k // 16), UINT8)
    global_scale: Any = Claimed((1,), FLOAT32)
    return abi.linear_decode_nvfp4(out, x, packed, block_scales, global_scale, swizzled=False)


def test_linear_layers_are_taken() -> None:
    taken(linear(fp8=False))
    taken(linear(DIM_MULTIPLE, 16, fp8=False))
    taken(linear(fp8=True))


@pytest.mark.parametrize(
    ("k", "rows", "scale"),
    [
        (256, 256, (1,)),
        (256, 256, (1, 1)),
        (256, 256, (256,)),
        (256, 256, (256, 1)),
        (256, 256, (2, 2)),
        (128, 256, (2, 1)),
        (16, 256, (2, 1)),
        (256, 16, (1, 2)),
        (300 // 16 * 16, 144, (2, 3)),
    ],
)
def test_fp8_scales_are_of_the_matrix_its_rows_or_its_blocks(
    k: int, rows: int, scale: tuple[int, ...]
) -> None:
    taken(linear(k, rows, fp8=True, scale=scale))


@pytest.mark.parametrize("scale", [(2,), (2, 1), (1, 2), (128, 2), (1, 256), (2, 2, 64), (0,)])
def test_other_fp8_scales_are_refused(scale: tuple[int, ...]) -> None:
    refused(
        linear(fp8=True, scale=scale),
        r"one a row \(256\), or one a block of 128 x 128 \(\[2, 2\]\)",
    )


LINEAR: Refusals = {
    "x of three dimensions": (
        {"x": Claimed((1, 2, 256), BFLOAT16)},
        r"x must have shape \[tokens, k\]",
    ),
    "half x": ({"x": Claimed((2, 256), FLOAT16)}, "x must be bfloat16, not float16"),
    "many tokens": (both(17, 256), "x must have 1 to 16 rows, not 17"),
    "k": (
        {"x": Claimed((2, 264), BFLOAT16)},
        "k, x's number of columns, must be a positive multiple",
    ),
    "another k": ({"x": Claimed((2, 512), BFLOAT16)}, "weight must have shape"),
    "x not aligned": ({"x": Claimed((2, 256), BFLOAT16, address=1026)}, "x must start at"),
    "output": ({"out": Claimed((2, 128), BFLOAT16)}, r"out must have shape \[2, 256\]"),
    "float weight": ({"weight": Claimed((256, 256), FLOAT32)}, "weight must be"),
    "a row too many": (
        {"weight": Claimed((257, 256), UINT8)},
        "number of rows must be a positive mult",
    ),
    "a weight of 2 GiB": (
        {"weight": Claimed((2**24, 256), UINT8)},
        "weight must be smaller than 2 GiB",
    ),
    "bias": ({"bias": Claimed((2,), BFLOAT16)}, r"bias must have shape \[256\]"),
    "scale": ({"scale": Claimed((256, 1), INT32)}, "scale must be"),
}


@pytest.mark.parametrize("fp8", [False, True], ids=["nvfp4", "fp8"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_decode_refuses(name: str, fp8: bool) -> None:
    changes, message = LINEAR[name]
    refused(linear(fp8=fp8), message, **changes)


def test_linear_decode_nvfp4_refuses_two_global_scales() -> None:
    refused(linear(fp8=False), "global_scale must hold one", global_scale=Claimed((2,), FLOAT32))


def quantization(dtype: tuple[int, int] = BFLOAT16, *, swizzled: bool = False) -> Call:
    """Of three rows of 64 values."""
    packed: Any = Claimed((3, 32), UINT8)
    scales: Any = Claimed((128, 4) if swizzled else (3, 4), UINT8)
    x: Any = Claimed((3, 64), dtype)
    global_scale: Any = Claimed((1,), FLOAT32)
    return abi.quantize_nvfp4(packed, scales, x, global_scale, swizzled=swizzled)


def conversion(codes: int, dtype: tuple[int, int] = FLOAT32) -> Call:
    """Of five values."""
    written: Any = Claimed((codes,), UINT8)
    x: Any = Claimed((5,), dtype)
    return abi.convert_e2m1(written, x, software=False)


def test_quantization_is_taken() -> None:
    for dtype in (BFLOAT16, FLOAT16, FLOAT32):
        taken(quantization(dtype))
    taken(quantization(swizzled=True))
    taken(conversion(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": Claimed((3, 64), INT32)}, "x must be float32 or bfloat16 or float16, not int32"),
        (
            {"x": Claimed((3, 40), BFLOAT16)},
            "x's number of columns must be a positive multiple of 16, not 40",
        ),
        ({"x": Claimed((3, 64), BFLOAT16, strides=(68, 1))}, "multiples of 16 bytes"),
        ({"x": Claimed((3, 2**31), BFLOAT16)}, r"x must have fewer than 2\^31 columns"),
        ({"packed": Claimed((3, 64), UINT8)}, r"packed must have shape \[3, 32\]"),
        ({"swizzled": True}, r"scales must have shape \[128, 4\]"),
        ({"global_scale": Claimed((2,), FLOAT32)}, "global_scale must hold one value, not 2"),
    ],
)
def test_quantization_refuses_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    refused(quantization(), message, **changes)


def test_conversion_refuses_wrong_arguments() -> None:
    refused(conversion(4), r"codes must have shape \[5\]")
    refused(conversion(5, BFLOAT16), "x must be float32")


def sparse() -> Call:
    """Two tokens, five experts with 256 hidden and 256 intermediate values."""

    def t(shape: tuple[int, ...], dtype: tuple[int, int]) -> Any:
        return Claimed(shape, dtype)

    return abi.moe_decode_24(
        out=t((2, 256), BFLOAT16),
        x=t((2, 256), BFLOAT16),
        routed=ExpertTiles(
            w13=t((5, 32, 1, 1792), UINT8),
            w13_global=t((5,), FLOAT32),
            w2=t((5, 16, 1, 1792), UINT8),
            w2_global=t((5,), FLOAT32),
        ),
        routing=Routing(t((2, 3), INT32), t((2, 3), FLOAT32)),
        shared=None,
        workspace=t((2 * 3 * 256,), BFLOAT16),
        activation="silu",
    )


def test_a_moe_layer_of_sparse_weights_is_taken() -> None:
    taken(sparse())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w13": Claimed((5, 512, 128), UINT8)}, r"w13 must have shape \[experts, 2 \* intermediate / 16"),
        ({"w2": Claimed((5, 8, 1, 1792), UINT8)}, r"w2 must have shape \[5, 16, 1, 1792\]"),
        ({"w13": Claimed((5, 32, 1, 1792), INT32)}, "w13 must be uint8, not int32"),
        ({"shared_w13": Claimed((1, 32, 1, 1792), UINT8)}, "four tensors must be given together"),
        ({"workspace": Claimed((8,), BFLOAT16)}, "workspace must hold 1536 values"),
        ({"activation": "relu"}, "silu, gelu or gelu_tanh, not relu"),
    ],
)
def test_moe_decode_24_refuses(changes: dict[str, Any], message: str) -> None:
    refused(sparse(), message, **changes)


def compression() -> Call:
    """Two matrices of 128 by 256."""
    tiles, packed, scales, violations = matrices()
    return abi.compress_24(tiles, violations, packed, scales, halves=True)


def decompression() -> Call:
    """Two matrices of 128 by 256."""
    tiles, packed, scales, _ = matrices()
    return abi.decompress_24(packed, scales, tiles, halves=True)


def matrices() -> tuple[Any, Any, Any, Any]:
    """Tiles, packed weights, scales and violations."""
    return (
        Claimed((2, 8, 1, 1792), UINT8),
        Claimed((2, 128, 128), UINT8),
        Claimed((2, 128, 16), UINT8),
        Claimed((2,), INT32),
    )


each_conversion = pytest.mark.parametrize("call", [compression(), decompression()], ids=lambda c: c.function)


@each_conversion
def test_conversion_to_and_from_tiles_is_taken(call: Call) -> None:
    taken(call)


@each_conversion
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packed": Claimed((128, 128), UINT8)}, r"packed must have shape \[experts, rows, k / 2\]"),
        ({"packed": Claimed((2, 72, 128), UINT8)}, "the number of rows must be a positive multiple of 128"),
        ({"packed": Claimed((2, 128, 64), UINT8)}, "k must be a positive multiple of 256, not 128"),
        ({"scales": Claimed((2, 128, 8), UINT8)}, r"scales must have shape \[2, 128, 16\]"),
        ({"tiles": Claimed((2, 8, 1, 1024), UINT8)}, r"tiles must have shape \[2, 8, 1, 1792\]"),
        ({"tiles": Claimed((2, 8, 1, 1792), UINT8, address=1032)}, "tiles must start at a multiple of 16"),
    ],
)
def test_conversion_to_and_from_tiles_refuses(call: Call, changes: dict[str, Any], message: str) -> None:
    refused(call, message, **changes)


def test_compression_refuses_violations_of_another_count() -> None:
    wrong = Claimed((3,), INT32)
    refused(compression(), r"violations must have shape \[2\]", violations=wrong)
