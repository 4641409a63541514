"""Reading a checkpoint's tensors by rows."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dgx_vllm.evaluation.quantized_view import Served
from dgx_vllm.evaluation.tensors import Tensors
from dgx_vllm.util.errors import UserError

CODES = torch.arange(128, dtype=torch.uint8).reshape(4, 32)


def made(directory: Path, **tensors: torch.Tensor) -> Tensors:
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    save_file(tensors, directory / "model.safetensors")
    return Tensors(str(directory), {"HF_HOME": str(directory)})


def test_rows_of_what_safetensors_cannot_slice(tmp_path: Path) -> None:
    held = made(tmp_path, weight=CODES.view(torch.float4_e2m1fn_x2))
    with safe_open(tmp_path / "model.safetensors", "pt") as file, pytest.raises(RuntimeError):
        file.get_slice("weight")[1:3]
    assert held.rows("weight", 1, 3).view(torch.uint8).equal(CODES[1:3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.uint8, torch.float32], ids=str)
def test_rows_of_other_types(tmp_path: Path, dtype: torch.dtype) -> None:
    held = made(tmp_path, weight=CODES.to(dtype))
    assert held.rows("weight", 1, 3).float().equal(CODES.to(dtype)[1:3].float())


def nvfp4(scale: float, four: bool) -> dict[str, torch.Tensor]:
    """A matrix in ModelOpt's layout, its codes as bytes or as safetensors' own four bits."""
    return {
        "layer.weight": CODES.view(torch.float4_e2m1fn_x2) if four else CODES,
        "layer.weight_scale": torch.full((4, 4), scale).to(torch.float8_e4m3fn),
        "layer.weight_scale_2": torch.tensor(0.5),
    }


def test_four_bits_are_measured_as_packed_bytes_are(tmp_path: Path) -> None:
    values = []
    for four in (False, True):
        place = tmp_path / str(four)
        place.mkdir()
        served = Served(made(place, **nvfp4(2.0, four)))
        assert served.matrices["layer"].shape == (4, 64)
        assert served.matrices["layer"].precision == "NVFP4"
        values.append(served.reader("layer")(0, 4))
    assert values[0].equal(values[1])


def test_scales_that_are_nan_are_named(tmp_path: Path) -> None:
    served = Served(made(tmp_path, **nvfp4(float("nan"), four=False)))
    with pytest.raises(UserError, match=r"layer\.weight_scale .* holds NaN, as ModelOpt writes"):
        served.reader("layer")(0, 4)
