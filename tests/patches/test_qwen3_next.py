"""Qwen3-Next's layers ask for their quantization under their own names, and its draft layers get none."""

import pytest
import torch

pytest.importorskip("vllm")

from vllm.config import ModelConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.linear import ColumnParallelLinear, LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.model_loader.utils import configure_quant_config
from vllm.model_executor.models.qwen3_next import Qwen3NextForCausalLM
from vllm.model_executor.models.qwen3_next_mtp import Qwen3NextMTP

from helpers import tiny_qwen3_next

pytestmark = pytest.mark.usefixtures("process_group")


class Recording(QuantizationConfig):
    """Quantizes nothing, and keeps who asked under which name."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, torch.nn.Module]] = []

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> UnquantizedLinearMethod | None:
        self.asked.append((prefix, layer))
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None

    @classmethod
    def get_name(cls) -> str:
        return "recording"

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.bfloat16]

    @classmethod
    def get_min_capability(cls) -> int:
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict) -> "Recording":
        return cls()


@pytest.fixture(scope="module")
def model_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return tiny_qwen3_next.model_config(tmp_path_factory.mktemp("model"))


def built(
    model: type[torch.nn.Module], config: ModelConfig, quantization: QuantizationConfig
) -> torch.nn.Module:
    """A model without weights, whose layers' names begin as in a checkpoint."""
    vllm_config = VllmConfig(model_config=config)
    vllm_config.quant_config = quantization
    with set_current_vllm_config(vllm_config), torch.device("meta"):
        return model(vllm_config=vllm_config, prefix="")


def test_layers_ask_for_their_quantization_under_their_own_names(model_config: ModelConfig) -> None:
    recording = Recording()
    model = built(Qwen3NextForCausalLM, model_config, recording)
    names = {module: name for name, module in model.named_modules()}
    asked = {names[layer]: prefix for prefix, layer in recording.asked if isinstance(layer, LinearBase)}
    assert [name for name in asked if name.endswith(".in_proj_qkvz")] == [
        f"model.layers.{layer}.linear_attn.in_proj_qkvz" for layer in range(3)
    ]
    assert {name: prefix for name, prefix in asked.items() if name != prefix} == {}


def test_draft_layers_hold_no_nvfp4_where_modelopt_excludes_only_layer_0(model_config: ModelConfig) -> None:
    """The exclude list of nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4 covers mtp.layers.0, and not mtp.fc."""
    from dgx_vllm.plugin import register

    register()
    quantization = tiny_qwen3_next.nvfp4("lm_head", "mtp.layers.0*")
    configure_quant_config(quantization, Qwen3NextMTP)
    model = built(Qwen3NextMTP, model_config, quantization)
    shapes = {name: (parameter.dtype, *parameter.shape) for name, parameter in model.named_parameters()}
    width = tiny_qwen3_next.HIDDEN
    floating = shapes["model.embed_tokens.weight"][0]
    assert shapes["model.fc.weight"] == (floating, width, 2 * width)
    assert {dtype for dtype, *_ in shapes.values()} == {floating}

    with set_current_vllm_config(VllmConfig(model_config=model_config)), torch.device("meta"):
        target = ColumnParallelLinear(
            width, width, quant_config=quantization, prefix="model.layers.3.self_attn.o_proj"
        )
    assert target.weight.dtype == torch.uint8
