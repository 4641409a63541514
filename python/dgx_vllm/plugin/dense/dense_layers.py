"""vLLM's linear layers and lm_heads, offered to `--dense-dtype` when they have been made.

vLLM's registry for layers from outside makes these classes in the place of its own. Without `--dense-dtype`
they are the same. What quantizes them is imported on request, and not into every process.
"""

from typing import cast

from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.custom_op import PluggableLayer
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from dgx_vllm.formats import dense_dtype
from dgx_vllm.plugin.dense.common import Layer

_LAYERS = (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
    ParallelLMHead,
)


def register() -> None:
    """Have vLLM make its layers by classes that offer them."""
    for base in _LAYERS:
        # With the base's name, by which compressed-tensors finds the layers that it quantizes.
        offered = type(base.__name__, (_Offered, base), {"__module__": __name__})
        PluggableLayer.register_oot(offered, name=base.__name__)


class _Offered:
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        offer(cast(Layer, self))


def offer(layer: Layer) -> None:
    """Have a layer quantized that `dense` covers, if that is asked for.

    Raises:
        ValueError: the requested dtype is unknown.
    """
    config = get_current_vllm_config_or_none()
    dtype = "bf16" if config is None else dense_dtype.requested(config.additional_config)
    if dtype == "bf16" or not dense_dtype.covers(layer.prefix):
        return
    from dgx_vllm.plugin.dense.fp8_method import Fp8Method
    from dgx_vllm.plugin.dense.method import adopt
    from dgx_vllm.plugin.dense.nvfp4_method import Nvfp4Method

    adopt(layer, Fp8Method if dtype == "fp8" else Nvfp4Method)
