"""Source: the checkpoint to prune, and what it says of its experts."""

from collections.abc import Mapping

import torch

from dgx_vllm.checkpoints import sparsity
from dgx_vllm.evaluation.norm_scales import norm_rms
from dgx_vllm.evaluation.tensors import Tensors
from dgx_vllm.formats.nvfp4 import Nvfp4Tensor
from dgx_vllm.prune import input_estimates
from dgx_vllm.prune.blocks import Block
from dgx_vllm.prune.experts import Activation, Experts
from dgx_vllm.util.errors import UserError

_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": torch.nn.functional.silu,
    "swish": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "gelu_pytorch_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "relu2": lambda x: torch.relu(x) ** 2,
}


class Source(Tensors):
    """A checkpoint in a directory, as `Tensors` has it, and what it says of its experts.

    Args:
        model: a directory, a profile's name or a Hugging Face id in the cache.
        environ: the process's environment, which says where the cache is.

    Raises:
        UserError: it is nowhere, not whole, or not in safetensors.
    """

    def __init__(self, model: str, environ: Mapping[str, str]) -> None:
        super().__init__(model, environ)
        self.sparsity = sparsity.declared(self.config, self.beside)

    def experts(self, block: Block, indices: tuple[int | None, ...]) -> Experts:
        """Some of a block's experts.

        Raises:
            UserError: their activation is unknown here.
        """
        gate = self._stacked(block, indices, block.gate) if block.gate else None
        up, down = (self._stacked(block, indices, leaf) for leaf in (block.up, block.down))
        return Experts(gate, up, down, self._activation())

    def norm_rms(self, block: Block, hidden: int) -> torch.Tensor | None:
        """The channels' root mean squares behind a block's norm, float32 [hidden]; None if it has none."""
        for name in input_estimates.norm_names(block.name):
            if name in self.tensors and self.tensors[name].shape == (hidden,):
                return norm_rms(self.tensor(name), str(self.text.get("model_type", "")))
        return None

    def router(self, block: Block) -> tuple[torch.Tensor, int] | None:
        """A block's router [experts, hidden] and how many it chooses, where it goes by the largest logits."""
        gate = f"{block.name.removesuffix('.experts')}.gate"
        top = self.text.get("num_experts_per_tok")
        shape = (len(block.indices),)
        if block.indices != tuple(range(*shape)):
            return None
        if f"{gate}.e_score_correction_bias" in self.tensors or not isinstance(top, int):
            return None
        stored = self.tensors.get(f"{gate}.weight")
        if stored is None or stored.dtype not in ("BF16", "F16", "F32") or stored.shape[:1] != shape:
            return None
        return self.tensor(f"{gate}.weight").float(), top

    def _activation(self) -> Activation:
        text = self.text
        name = text.get("hidden_act") or text.get("mlp_hidden_act") or text.get("hidden_activation") or "silu"
        if name not in _ACTIVATIONS:
            raise UserError(
                f"{self.model}: the experts' activation {name!r} is unknown (known: "
                f"{', '.join(_ACTIVATIONS)}); prune with --method magnitude"
            )
        return _ACTIVATIONS[name]

    def _stacked(self, block: Block, indices: tuple[int | None, ...], leaf: str) -> Nvfp4Tensor:
        modules = [block.module(index, leaf) for index in indices]
        weight, scale, scale_2 = (
            torch.stack([self.tensor(f"{module}.{suffix}") for module in modules])
            for suffix in ("weight", "weight_scale", "weight_scale_2")
        )
        return Nvfp4Tensor(weight, scale, scale_2.reshape(len(modules)))
