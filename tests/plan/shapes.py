"""Configs of models whose figures are known."""

from typing import Any

from dgx_vllm.bench_decode import model_configs
from dgx_vllm.plan import model, source
from dgx_vllm.plan.model import Model

#: Its layers' kinds follow from full_attention_interval, so that tests may change how many there are.
QWEN3_NEXT_NVFP4 = {
    name: value for name, value in model_configs.config("qwen3-next-80b-a3b").items() if name != "layer_types"
}
QWEN3_NEXT = {name: value for name, value in QWEN3_NEXT_NVFP4.items() if name != "quantization_config"}


def understood(config: dict[str, Any], **changes: Any) -> Model:
    """A model from its config alone."""
    return model.understand(source.Source("model", {**config, **changes}))
