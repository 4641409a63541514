"""The checkpoint writer: names, dtypes, shared scales and the ignore list."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dgx_vllm.formats.nvfp4.modelopt import (
    fused_name,
    quantize_tensors,
    unquantized_modules,
    write_checkpoint,
)

QUANTIZED = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "embed_tokens.weight": random(32, 16),
        "mlp.gate_proj.weight": random(32, 16),
        "mlp.up_proj.weight": 3 * random(32, 16),
        "mlp.down_proj.weight": random(16, 32),
        "mlp.gate.weight": random(4, 16),
        "attn.conv1d.weight": random(8, 1, 4),
        "norm.weight": random(16),
        "A_log": random(4),
    }


AMAX = {
    "mlp.gate_proj": torch.tensor(2.0),
    "mlp.up_proj": torch.tensor(5.0),
    "mlp.down_proj": torch.tensor(7.0),
}


def test_each_quantized_matrix_becomes_four_tensors(tensors: dict[str, torch.Tensor]) -> None:
    out = quantize_tensors(tensors, QUANTIZED, AMAX)
    for module in QUANTIZED:
        rows, columns = tensors[f"{module}.weight"].shape
        packed = out[f"{module}.weight"]
        assert (packed.dtype, packed.shape) == (torch.uint8, (rows, columns // 2))
        scale = out[f"{module}.weight_scale"]
        assert (scale.dtype, scale.shape) == (torch.float8_e4m3fn, (rows, columns // 16))
        for name in ("weight_scale_2", "input_scale"):
            assert (out[f"{module}.{name}"].dtype, out[f"{module}.{name}"].shape) == (torch.float32, ())
    parts = ("weight", "weight_scale", "weight_scale_2", "input_scale")
    rest = set(out) - {f"{module}.{part}" for module in QUANTIZED for part in parts}
    assert {out[name].dtype for name in rest} == {torch.bfloat16}
    assert rest | {f"{m}.weight" for m in QUANTIZED} == set(tensors)


def test_fused_projections_share_their_scales(tensors: dict[str, torch.Tensor]) -> None:
    out = quantize_tensors(tensors, QUANTIZED, AMAX)
    larger = tensors["mlp.up_proj.weight"].abs().max()
    for module in ("mlp.gate_proj", "mlp.up_proj"):
        assert out[f"{module}.weight_scale_2"] == larger / 2688
        assert out[f"{module}.input_scale"] == torch.tensor(5.0) / 2688
    assert out["mlp.down_proj.input_scale"] == torch.tensor(7.0) / 2688


def test_names_of_fused_projections() -> None:
    assert (
        fused_name("a.experts.3.up_proj") == fused_name("a.experts.3.gate_proj") == "a.experts.3.gate_up_proj"
    )
    assert fused_name("a.experts.4.up_proj") != fused_name("a.experts.3.up_proj")
    assert fused_name("a.q_proj") == fused_name("a.v_proj") == "a.qkv_proj"
    assert fused_name("lm_head") == "lm_head"


def test_every_layer_that_stays_is_named_in_full(tensors: dict[str, torch.Tensor]) -> None:
    assert unquantized_modules(tensors, QUANTIZED) == ["attn.conv1d", "mlp.gate"]


def test_both_config_files_say_the_same(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "new", {"model_type": "x"}, tensors, QUANTIZED, AMAX)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    older = json.loads((tmp_path / "new" / "hf_quant_config.json").read_text())["quantization"]
    assert config["model_type"] == "x"
    assert config["quantization_config"]["quant_method"] == "modelopt"
    assert config["quantization_config"]["quant_algo"] == older["quant_algo"] == "NVFP4"
    assert config["quantization_config"]["ignore"] == older["exclude_modules"] == ["attn.conv1d", "mlp.gate"]
    assert older["group_size"] == 16
    stored = load_file(tmp_path / "new" / "model.safetensors")
    assert stored.keys() == quantize_tensors(tensors, QUANTIZED, AMAX).keys()


def test_nothing_is_written_for_a_matrix_that_does_not_fit(
    tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    tensors["mlp.down_proj.weight"] = torch.zeros(16, 24)
    with pytest.raises(ValueError, match="multiple of 16"):
        write_checkpoint(tmp_path / "new", {}, tensors, QUANTIZED, AMAX)
    assert not (tmp_path / "new").exists()


def test_a_missing_calibration_is_an_error(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(KeyError, match="down_proj"):
        quantize_tensors(tensors, QUANTIZED, {k: v for k, v in AMAX.items() if "down" not in k})
