"""Every dtype that the installed safetensors writes is counted, to the byte and by the number."""

import json
import math
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError, deserialize

from dgx_vllm.checkpoints import headers
from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.plan import weights


def dtypes() -> list[str]:
    """The names that safetensors takes, by its own error for one that it does not."""
    head = json.dumps({"a": {"dtype": "none", "shape": [], "data_offsets": [0, 0]}}).encode()
    with pytest.raises(SafetensorError) as refused:
        deserialize(len(head).to_bytes(8, "little") + head)
    known = str(refused.value).partition("expected one of")[2]
    return re.findall(r"`(\w+)`", known)


DTYPES = dtypes()


def file(path: Path, dtype: str, shape: tuple[int, ...], bits: int) -> bytes:
    size = math.prod(shape) * bits // 8
    head = json.dumps({"a.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    content = len(head).to_bytes(8, "little") + head + bytes(size)
    path.write_bytes(content)
    return content


def bits(path: Path, dtype: str) -> int:
    """Of one number: the only size that safetensors accepts."""
    for count in (4, 6, 8, 16, 32, 64, 128):
        try:
            deserialize(file(path, dtype, (8, 16), count))
        except SafetensorError:
            continue
        return count
    raise AssertionError(f"safetensors takes {dtype} in no size")


def test_safetensors_names_its_dtypes() -> None:
    assert {"BF16", "F32", "F4", "F8_E8M0", "C64"} <= set(DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_counted(tmp_path: Path, dtype: str) -> None:
    count = bits(tmp_path / "model.safetensors", dtype)
    (found,) = weights.stored(headers.read(tmp_path))
    assert (found.parameters, found.bytes) == (8 * 16, 8 * 16 * count // 8)


@pytest.mark.parametrize(
    ("weight", "scale", "precision", "each"),
    [
        ("F4", "F8_E4M3", "NVFP4", 1),
        ("F4", "F8_E8M0", "MXFP4", 1),
        ("U8", "F8_E4M3", "NVFP4", 2),
        ("U8", "U8", "MXFP4", 2),
        ("U8", "F8_E8M0", "MXFP4", 2),
        ("I8", "F8_E8M0", "MXFP4", 2),
        ("I8", "F32", "INT8", 1),
        ("F8_E4M3", "F8_E8M0", "MXFP8", 1),
        ("F8_E4M3", "F32", "FP8", 1),
        ("F8_E5M2", "F32", "FP8", 1),
    ],
)
@pytest.mark.parametrize("suffix", ["weight_scale", "scale"])
def test_scales_say_how_a_weight_is_packed(
    weight: str, scale: str, precision: str, each: int, suffix: str
) -> None:
    stored = {
        "model.layers.0.mlp.up_proj.weight": Stored(weight, (32, 64), (0, 32 * 64)),
        f"model.layers.0.mlp.up_proj.{suffix}": Stored(scale, (32, 4), (32 * 64, 36 * 64)),
    }
    (found,) = weights.stored(stored)
    assert (found.precision, found.parameters, found.bytes) == (precision, each * 32 * 64, 36 * 64)


def test_a_scale_alone_is_a_norms_weight() -> None:
    (found,) = weights.stored({"model.norm.scale": Stored("BF16", (64,), (0, 128))})
    assert (found.precision, found.parameters, found.bytes) == ("BF16", 64, 128)
