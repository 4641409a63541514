"""Weights: random ones of a plausible size, in every format that NVFP4 checkpoints hold.

vLLM's own dummy loader leaves packed FP4 as the memory was, zeros on a fresh GPU, and block scales near zero:
activations vanish, and power and clocks are not those of a model. This one is vLLM's, and then fills again.

vLLM's workers import this as the worker extension that `run` names, which registers the load format.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from vllm.config import ModelConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

LOAD_FORMAT = "dgx-dummy"
EXTENSION = "dgx_vllm.bench_decode.random_weights.Extension"

_SEED = 1234
# The bound of vLLM's uniform dummy weights.
_VLLMS_BOUND = 1e-3
# Codes times block scales are 2.2 in the root mean square: with this, 2048 inputs give outputs of their size.
_GLOBAL_SCALE = 0.01


class Extension:
    """Nothing of its own: vLLM makes its worker a subclass of it."""


@register_model_loader(LOAD_FORMAT)
class RandomLoader(DummyModelLoader):
    """The same weights for the same shapes, whatever the backend."""

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        """Fill every parameter of the model."""
        super().load_weights(model, model_config)
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.device.type != "meta":
                    fill(module, name, parameter.data)


def fill(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Draw one parameter.

    Args:
        module: whose it is.
        name: in the module.
        tensor: any shape and type that a checkpoint's loader creates.
    """
    generator = torch.Generator(tensor.device).manual_seed(_SEED)
    if name in ("weight_scale_2", "input_scale") or name.endswith(("_weight_scale_2", "_input_scale")):
        tensor.fill_(_GLOBAL_SCALE)
    elif name.endswith("_global_scale"):  # compressed-tensors: what it is divided by
        tensor.fill_(1 / _GLOBAL_SCALE)
    elif tensor.dtype == torch.uint8:
        tensor.random_(0, 256, generator=generator)
    elif name.endswith("_scale") and tensor.dtype == torch.float8_e4m3fn:
        drawn = torch.empty(tensor.shape, dtype=torch.float16, device=tensor.device)
        tensor.copy_(drawn.uniform_(0.5, 1.0, generator=generator))
    elif name == "weight_scale":
        # Quantized while it was loaded, from vLLM's dummy weights: the scale makes up for their size.
        tensor.mul_(_bound(cast(int, module.input_size_per_partition)) / _VLLMS_BOUND)
    elif tensor.is_floating_point() and tensor.element_size() > 1:
        bound = _bound(tensor.shape[-1]) if tensor.dim() > 1 else None
        low, high = (-bound, bound) if bound else (0.5, 1.0)
        tensor.uniform_(low, high, generator=generator)


def _bound(inputs: int) -> float:
    """Of a uniform distribution that keeps the size of what it is multiplied with."""
    return math.sqrt(3 / inputs)
