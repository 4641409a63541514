"""What the compiled library refuses, and that it takes the rest: by tensors without memory, and no GPU.

A call whose arguments are right gets as far as the CUDA runtime, which finds no GPU. DGX_VLLM_KERNELS_LIBRARY
names a library for this machine's processor.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from claimed import BFLOAT16, FLOAT16, FLOAT32, INT32, INT64, UINT8, Claimed

from dgx_vllm.kernels import library
from dgx_vllm.kernels.limits import DIM_MULTIPLE, MAX_EXPERTS_PER_TOKEN, MAX_HIDDEN, MAX_TOKENS

if "DGX_VLLM_KERNELS_LIBRARY" not in os.environ:
    pytest.skip("needs DGX_VLLM_KERNELS_LIBRARY", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("would launch kernels on memory that is not there", allow_module_level=True)

Arguments = dict[str, Any]
Change = Callable[[Arguments], Any]


def call(name: str, arguments: Arguments) -> None:
    import tvm_ffi

    held = [tvm_ffi.from_dlpack(each) if isinstance(each, Claimed) else each for each in arguments.values()]
    getattr(library.load(), name)(*held)


def taken(name: str, arguments: Arguments) -> None:
    """Nothing is wrong with a call but that there is no GPU."""
    with pytest.raises(RuntimeError, match=r"(?i)cuda.*(driver|device)"):
        call(name, arguments)


def refused(name: str, arguments: Arguments, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(name, arguments)


def both(size: Callable[[], Claimed]) -> Change:
    """Another x, and an output like it."""
    return lambda a: a.update(out=size(), x=size())


def moe(
    tokens: int = 2,
    hidden: int = 192,
    intermediate: int = 64,
    count: int = 5,
    top_k: int = 3,
    shared: int = 0,
    device: int = 0,
) -> Arguments:
    def t(shape: tuple[int, ...], dtype: tuple[int, int]) -> Claimed:
        return Claimed(shape, dtype, device)

    def matrices(number: int, size: int, prefix: str = "") -> Arguments:
        return {
            f"{prefix}w13": t((number, 2 * size, hidden // 2), UINT8),
            f"{prefix}w13_scale": t((number, 2 * size, hidden // 16), UINT8),
            f"{prefix}w13_global": t((number,), FLOAT32),
            f"{prefix}w2": t((number, hidden, size // 2), UINT8),
            f"{prefix}w2_scale": t((number, hidden, size // 16), UINT8),
            f"{prefix}w2_global": t((number,), FLOAT32),
        }

    return {
        "out": t((tokens, hidden), BFLOAT16),
        "x": t((tokens, hidden), BFLOAT16),
        **matrices(count, intermediate),
        "topk_ids": t((tokens, top_k), INT32),
        "topk_weights": t((tokens, top_k), FLOAT32),
        "expert_map": None,
        **(
            matrices(1, shared, "shared_")
            if shared
            else dict.fromkeys(f"shared_{name}" for name in matrices(1, 64))
        ),
        "shared_gate": t((hidden,), BFLOAT16) if shared else None,
        "workspace": t((tokens * (top_k * intermediate + shared),), BFLOAT16),
        "activation": "silu",
        "swizzled": False,
        "up_first": False,
        "weight_on_input": False,
        "overlap": True,
    }


@pytest.mark.parametrize("device", [0, 1])
def test_a_moe_layer_is_taken(device: int) -> None:
    taken("moe_decode", moe(device=device))
    taken("moe_decode", moe(shared=128, device=device))


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
    taken("moe_decode", moe(**sizes))


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
    refused("moe_decode", moe(**sizes), message)


MOE: dict[str, tuple[Change, str]] = {
    "float x": (lambda a: a.update(x=Claimed((2, 192), FLOAT32)), "x must be bfloat16, not float32"),
    "x of one dimension": (
        lambda a: a.update(x=Claimed((192,), BFLOAT16)),
        r"x must have shape \[tokens, hidden\]",
    ),
    "x by columns": (lambda a: a.update(x=Claimed((2, 192), BFLOAT16, strides=(1, 2))), "contiguous rows"),
    "x's rows apart": (
        lambda a: a.update(x=Claimed((2, 192), BFLOAT16, strides=(196, 1))),
        "multiples of 16 bytes",
    ),
    "x not aligned": (
        lambda a: a.update(x=Claimed((2, 192), BFLOAT16, address=1032)),
        "x must start at a multiple",
    ),
    "another hidden size": (both(lambda: Claimed((2, 128), BFLOAT16)), r"w13 must have shape \[5, 128, 64\]"),
    "w13 not aligned": (
        lambda a: a.update(w13=Claimed((5, 128, 96), UINT8, address=1032)),
        "w13 must start at a mult",
    ),
    "w13 elsewhere": (
        lambda a: a.update(w13=Claimed((5, 128, 96), UINT8, device=1)),
        "first tensor, cuda:0, not cuda:1",
    ),
    "w2 not contiguous": (
        lambda a: a.update(w2=Claimed((5, 192, 32), UINT8, strides=(12288, 64, 1))),
        "w2 must be contig",
    ),
    "scales called swizzled": (lambda a: a.update(swizzled=True), r"w2_scale must have shape \[5, 256, 4\]"),
    "gate and up and more": (
        lambda a: a.update(w13_global=Claimed((5, 3), FLOAT32)),
        r"\[experts\] or \[experts, 1 or 2\]",
    ),
    "no experts": (lambda a: a.update(w13=Claimed((0, 128, 96), UINT8)), "w13 must hold 1 to"),
    "wide ids": (lambda a: a.update(topk_ids=Claimed((2, 3), INT64)), "topk_ids must be int32, not int64"),
    "ids of other tokens": (
        lambda a: a.update(topk_ids=Claimed((3, 3), INT32)),
        r"topk_ids must have shape \[2, 3\]",
    ),
    "half of a shared expert": (lambda a: a.update(shared_w13=Claimed((1, 128, 96), UINT8)), "six tensors"),
    "a gate for nothing": (
        lambda a: a.update(shared_gate=Claimed((192,), BFLOAT16)),
        "shared_gate must come with",
    ),
    "small workspace": (
        lambda a: a.update(workspace=Claimed((8,), BFLOAT16)),
        "workspace must hold 384 values",
    ),
    "activation": (lambda a: a.update(activation="relu"), "silu, gelu or gelu_tanh, not relu"),
    "output's shape": (
        lambda a: a.update(out=Claimed((1, 192), BFLOAT16)),
        r"out must have shape \[2, 192\]",
    ),
}


@pytest.mark.parametrize("name", MOE)
def test_moe_decode_refuses(name: str) -> None:
    change, message = MOE[name]
    arguments = moe()
    change(arguments)
    refused("moe_decode", arguments, message)


def linear(k: int = 256, rows: int = 256, *, fp8: bool, scale: tuple[int, ...] | None = None) -> Arguments:
    arguments = {"out": Claimed((2, rows), BFLOAT16), "x": Claimed((2, k), BFLOAT16)}
    if fp8:
        arguments |= {"weight": Claimed((rows, k), UINT8), "scale": Claimed(scale or (rows, 1), FLOAT32)}
        return {**arguments, "bias": None, "overlap": True}
    arguments |= {"weight": Claimed((rows, k // 2), UINT8), "scale": Claimed((rows, k // 16), UINT8)}
    return {**arguments, "global": Claimed((1,), FLOAT32), "bias": None, "swizzled": False, "overlap": True}


def test_linear_layers_are_taken() -> None:
    taken("linear_decode_nvfp4", linear(fp8=False))
    taken("linear_decode_nvfp4", linear(DIM_MULTIPLE, 16, fp8=False))
    taken("linear_decode_fp8", linear(fp8=True))


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
    taken("linear_decode_fp8", linear(k, rows, fp8=True, scale=scale))


@pytest.mark.parametrize("scale", [(2,), (2, 1), (1, 2), (128, 2), (1, 256), (2, 2, 64), (0,)])
def test_other_fp8_scales_are_refused(scale: tuple[int, ...]) -> None:
    refused(
        "linear_decode_fp8",
        linear(fp8=True, scale=scale),
        r"one a row \(256\), or one a block of 128 x 128 \(\[2, 2\]\)",
    )


LINEAR: dict[str, tuple[Change, str]] = {
    "x of three dimensions": (
        lambda a: a.update(x=Claimed((1, 2, 256), BFLOAT16)),
        r"x must have shape \[tokens, k\]",
    ),
    "half x": (lambda a: a.update(x=Claimed((2, 256), FLOAT16)), "x must be bfloat16, not float16"),
    "many tokens": (both(lambda: Claimed((17, 256), BFLOAT16)), "x must have 1 to 16 rows, not 17"),
    "k": (
        lambda a: a.update(x=Claimed((2, 264), BFLOAT16)),
        "k, x's number of columns, must be a positive multiple",
    ),
    "another k": (lambda a: a.update(x=Claimed((2, 512), BFLOAT16)), "weight must have shape"),
    "x not aligned": (lambda a: a.update(x=Claimed((2, 256), BFLOAT16, address=1026)), "x must start at"),
    "output": (lambda a: a.update(out=Claimed((2, 128), BFLOAT16)), r"out must have shape \[2, 256\]"),
    "float weight": (lambda a: a.update(weight=Claimed((256, 256), FLOAT32)), "weight must be"),
    "a row too many": (
        lambda a: a.update(weight=Claimed((257, 256), UINT8)),
        "number of rows must be a positive mult",
    ),
    "a weight of 2 GiB": (
        lambda a: a.update(weight=Claimed((2**24, 256), UINT8)),
        "weight must be smaller than 2 GiB",
    ),
    "bias": (lambda a: a.update(bias=Claimed((2,), BFLOAT16)), r"bias must have shape \[256\]"),
    "scale": (lambda a: a.update(scale=Claimed((256, 1), INT32)), "scale must be"),
}


@pytest.mark.parametrize("fp8", [False, True], ids=["nvfp4", "fp8"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_decode_refuses(name: str, fp8: bool) -> None:
    change, message = LINEAR[name]
    arguments = linear(fp8=fp8)
    change(arguments)
    refused("linear_decode_fp8" if fp8 else "linear_decode_nvfp4", arguments, message)


def test_linear_decode_nvfp4_refuses_two_global_scales() -> None:
    refused(
        "linear_decode_nvfp4",
        linear(fp8=False) | {"global": Claimed((2,), FLOAT32)},
        "global_scale must hold one",
    )


def quantized(rows: int = 3, columns: int = 64, dtype: tuple[int, int] = BFLOAT16) -> Arguments:
    return {
        "packed": Claimed((rows, columns // 2), UINT8),
        "scales": Claimed((rows, columns // 16), UINT8),
        "x": Claimed((rows, columns), dtype),
        "global_scale": Claimed((1,), FLOAT32),
        "swizzled": False,
    }


def test_quantization_is_taken() -> None:
    for dtype in (BFLOAT16, FLOAT16, FLOAT32):
        taken("quantize_nvfp4", quantized(dtype=dtype))
    taken("quantize_nvfp4", quantized() | {"scales": Claimed((128, 4), UINT8), "swizzled": True})
    taken("convert_e2m1", {"codes": Claimed((5,), UINT8), "x": Claimed((5,), FLOAT32), "software": False})


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_quantization_refuses(change: Arguments, message: str) -> None:
    refused("quantize_nvfp4", quantized() | change, message)


def test_conversion_refuses() -> None:
    codes, x = Claimed((4,), UINT8), Claimed((5,), FLOAT32)
    refused("convert_e2m1", {"codes": codes, "x": x, "software": False}, r"codes must have shape \[5\]")
    refused(
        "convert_e2m1", {"codes": codes, "x": Claimed((4,), BFLOAT16), "software": True}, "x must be float32"
    )


def sparse(tokens: int = 2, hidden: int = 256, intermediate: int = 256, count: int = 5) -> Arguments:
    def tiles(rows: int, k: int) -> Claimed:
        return Claimed((count, rows // 16, k // 256, 1792), UINT8)

    shared = ("w13", "w13_global", "w2", "w2_global")
    return {
        "out": Claimed((tokens, hidden), BFLOAT16),
        "x": Claimed((tokens, hidden), BFLOAT16),
        "w13": tiles(2 * intermediate, hidden),
        "w13_global": Claimed((count,), FLOAT32),
        "w2": tiles(hidden, intermediate),
        "w2_global": Claimed((count,), FLOAT32),
        "topk_ids": Claimed((tokens, 3), INT32),
        "topk_weights": Claimed((tokens, 3), FLOAT32),
        "expert_map": None,
        **dict.fromkeys(f"shared_{name}" for name in shared),
        "shared_gate": None,
        "workspace": Claimed((tokens * 3 * intermediate,), BFLOAT16),
        "activation": "silu",
        "weight_on_input": False,
        "overlap": True,
    }


def test_a_moe_layer_of_sparse_weights_is_taken() -> None:
    taken("moe_decode_24", sparse())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w13": Claimed((5, 512, 128), UINT8)}, r"w13 must have shape \[experts, 2 \* intermediate / 16"),
        ({"w2": Claimed((5, 8, 1, 1792), UINT8)}, r"w2 must have shape \[5, 16, 1, 1792\]"),
        ({"w13": Claimed((5, 32, 1, 1792), INT32)}, "w13 must be uint8, not int32"),
        ({"shared_w13": Claimed((1, 32, 1, 1792), UINT8)}, "four tensors must be given together"),
        ({"workspace": Claimed((8,), BFLOAT16)}, "workspace must hold 1536 values"),
        ({"activation": "relu"}, "silu, gelu or gelu_tanh, not relu"),
    ],
)
def test_moe_decode_24_refuses(change: Arguments, message: str) -> None:
    refused("moe_decode_24", sparse() | change, message)


def matrices(experts: int = 2, rows: int = 128, k: int = 256) -> Arguments:
    return {
        "packed": Claimed((experts, rows, k // 2), UINT8),
        "scales": Claimed((experts, rows, k // 16), UINT8),
        "tiles": Claimed((experts, rows // 16, k // 256, 1792), UINT8),
        "violations": Claimed((experts,), INT32),
    }


def compression(name: str, changed: Arguments) -> Arguments:
    """The arguments of `compress_24` or `decompress_24`, in its order."""
    tensors = matrices() | changed
    order = {
        "compress_24": ("tiles", "violations", "packed", "scales"),
        "decompress_24": ("packed", "scales", "tiles"),
    }
    return {key: tensors[key] for key in order[name]} | {"halves": True, "swizzled": True}


each_conversion = pytest.mark.parametrize("name", ["compress_24", "decompress_24"])


@each_conversion
def test_conversion_to_and_from_tiles_is_taken(name: str) -> None:
    taken(name, compression(name, {}))


@each_conversion
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packed": Claimed((128, 128), UINT8)}, r"packed must have shape \[experts, rows, k / 2\]"),
        ({"packed": Claimed((2, 72, 128), UINT8)}, "the number of rows must be a positive multiple of 128"),
        ({"packed": Claimed((2, 128, 64), UINT8)}, "k must be a positive multiple of 256, not 128"),
        ({"scales": Claimed((2, 128, 8), UINT8)}, r"scales must have shape \[2, 128, 16\]"),
        ({"tiles": Claimed((2, 8, 1, 1024), UINT8)}, r"tiles must have shape \[2, 8, 1, 1792\]"),
        ({"tiles": Claimed((2, 8, 1, 1792), UINT8, address=1032)}, "tiles must start at a multiple of 16"),
    ],
)
def test_conversion_to_and_from_tiles_refuses(name: str, change: Arguments, message: str) -> None:
    refused(name, compression(name, change), message)


def test_compression_refuses_violations_of_another_count() -> None:
    arguments = compression("compress_24", {"violations": Claimed((3,), INT32)})
    refused("compress_24", arguments, r"violations must have shape \[2\]")
