"""`--dense-dtype` in vLLM: linear layers that were left in BF16 are quantized while they are loaded.

It covers layers that `dgx_vllm.formats.dense_dtype` names and that vLLM would serve unquantized. vLLM makes
such a layer as ever, then its weight is given back. vLLM's machinery for online quantization keeps what the
loader brings until the layer is whole, materializes it and has it quantized before the next one. So no more
than one layer is there in both formats.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, cast

import torch
import vllm.envs as envs
from torch.nn import Module
from vllm.config import get_current_vllm_config
from vllm.model_executor.layers.linear import LinearMethodBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info, initialize_online_processing
from vllm.model_executor.model_loader.reload.meta import to_meta_tensor

from dgx_vllm.formats import dense_dtype
from dgx_vllm.plugin import decisions, device_memory
from dgx_vllm.plugin.dense.common import Layer
from dgx_vllm.plugin.log import logger, without_number

#: The kernels count a weight's bytes, and rows times k, in 31 bits.
_MAX_VALUES = 2**31 - 1

#: Drafts without an lm_head, and MTP layers that take the target's as it is. Others may hold one of their own
#: against it, value by value, which fails where the two have not the same dtype.
_HEADLESS = ("ngram", "suffix")
_SHARING = ("qwen3_next_mtp", "qwen3_5_mtp")


class DenseMethod(LinearMethodBase):
    """Quantizes a layer's BF16 weight when it is loaded.

    Args:
        unquantized: the layer's own method, which made its weight.
    """

    #: Of `dense.Dtype`.
    dtype: ClassVar[dense_dtype.Dtype]
    #: Rows and columns that both of its kernels take at once.
    multiple: ClassVar[int]

    #: By this vLLM's loaders know that weights are quantized as they arrive.
    uses_meta_device = True

    def __init__(self, unquantized: QuantizeMethodBase) -> None:
        self.unquantized = unquantized

    def create_weights(self, layer: Module, *args: object, **kwargs: object) -> None:
        """Has been done by `unquantized` when this method takes over."""
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def refusal() -> str | None:
        """Why the device cannot serve it, None if it can."""

    @staticmethod
    @abstractmethod
    def described() -> str:
        """What it is, for the log."""

    @abstractmethod
    def converted(self, weight: torch.Tensor) -> bool:
        """Whether a layer's `weight` is quantized."""

    @abstractmethod
    def room(self, weight: torch.Tensor) -> int:
        """Bytes that `convert` needs in addition to the weight in BF16."""

    @abstractmethod
    def convert(self, layer: Module, weight: torch.Tensor) -> bool:
        """Replace `weight` [rows, k] by what it is quantized to; False, with nothing done, if not finite."""

    def process_weights_after_loading(self, layer: Module) -> None:
        """Quantize the weight; vLLM calls twice."""
        weight = cast(torch.Tensor, layer.weight)
        if self.converted(weight):
            return
        needed, free = self.room(weight), device_memory.free(weight.device)
        if needed > free:
            self.leave(layer, f"quantizing it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free")
        elif not self.convert(layer, weight.data):
            self.leave(layer, "it holds weights that are not finite")

    def tie_weights(self, layer: Module, embed_tokens: Module) -> Module:
        """Leave the layer: an embedding's BF16 rows stay, so that these would be a second copy of them."""
        self.leave(layer, "it shares its weights with the embedding")
        get_layerwise_info(layer).reset()
        return self.unquantized.tie_weights(layer, embed_tokens)

    def leave(self, layer: Module, reason: str) -> None:
        """Give the layer back to vLLM, which processes all layers once they are loaded."""
        _left(self.dtype, cast(str, layer.prefix), reason)
        cast(Layer, layer).quant_method = self.unquantized


def adopt(layer: Layer, kind: type[DenseMethod]) -> None:
    """Have a layer that was just made quantized while it is loaded, if it is unquantized and can be."""
    method = layer.quant_method
    if type(method) not in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod):
        logger.info_once(
            "dense_dtype %s: %s stays as in the checkpoint (%s)",
            kind.dtype,
            without_number(layer.prefix),
            type(method).__name__,
        )
        return
    reason = next(_refusals(layer, kind), None)
    if reason is not None:
        _left(kind.dtype, layer.prefix, reason)
        return
    logger.info_once("dense_dtype %s: %s", kind.dtype, kind.described())
    decisions.record(f"dense dtype {kind.dtype}")
    unloaded = to_meta_tensor(cast(torch.Tensor, layer.weight))
    layer.register_parameter("weight", cast(torch.nn.Parameter, unloaded))
    layer.quant_method = kind(method)
    initialize_online_processing(layer)


def _refusals(layer: Layer, kind: type[DenseMethod]) -> Iterator[str]:
    """Why a layer cannot be quantized; the first counts."""
    elsewhere = kind.refusal()
    if elsewhere is not None:
        yield elsewhere
    if layer.params_dtype != torch.bfloat16:
        yield f"its weights are {layer.params_dtype} and not torch.bfloat16"
    rows, k = layer.output_size_per_partition, layer.input_size_per_partition
    for name, size in (("outputs", rows), ("inputs", k)):
        if size % kind.multiple:
            yield f"its {size} {name} are not a multiple of {kind.multiple}"
    if rows * k > _MAX_VALUES:
        yield f"its {rows} x {k} values are more than {_MAX_VALUES}"
    if envs.VLLM_BATCH_INVARIANT:
        yield "VLLM_BATCH_INVARIANT asks for results that do not depend on the number of tokens"
    if isinstance(layer, ParallelLMHead):
        yield from _refusals_of_head()


def _refusals_of_head() -> Iterator[str]:
    config = get_current_vllm_config()
    model, drafts = config.model_config, config.speculative_config
    if model is not None and model.head_dtype != model.dtype:
        yield f"its logits are asked for in {model.head_dtype}"
    if drafts is None or drafts.method in _HEADLESS:
        return
    kind = str(drafts.method)
    if kind == "mtp" and drafts.draft_model_config is not None:
        kind = drafts.draft_model_config.hf_config.model_type
    if kind not in _SHARING:
        yield f"drafts by {kind} may compare it with their own"


def _left(dtype: dense_dtype.Dtype, prefix: str, reason: str) -> None:
    decisions.record(f"{dtype} leaves {prefix}")
    logger.warning_once("dense_dtype %s leaves %s in BF16: %s", dtype, without_number(prefix), reason)
