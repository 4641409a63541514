"""Random weights by which a tiny model's answers say something, and the files that hold them.

With purely random weights no draft is ever accepted. So each output row holds a part of the embedding of the
token before it in a fixed order (`predecessor`). What the layers add to the residual stream is about as large
as the embedding. So the likeliest token is sometimes the successor in that order, and sometimes another one,
which depends on the context. A drafter that knows the order is then sometimes right.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from dgx_vllm.demo import CHECKPOINT
from dgx_vllm.formats.nvfp4 import global_scale, quantize
from dgx_vllm.formats.nvfp4.modelopt import shared_amax, write_json

Format = Literal["bf16", "nvfp4", "nvfp4_weights_alone", "fp8"]

#: That of the demo's tokenizer, whose files every tiny checkpoint gets.
VOCABULARY = 512
#: The largest magnitude that FP8 (E4M3) holds.
_FP8_MAX = 448
#: The largest input that the static scales of activations allow for.
_INPUT_AMAX = 8.0
#: Of a token's own embedding in the output row of its successor, in standard deviations of the row.
_SUCCESSOR = 0.6
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


class Drawing:
    """Named tensors of one checkpoint, drawn in a fixed order from a seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._weights: dict[str, Tensor] = {}
        self.tensors: dict[str, Tensor] = {}
        self.formats: dict[str, Format] = {}

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32."""
        values: Tensor = torch.randn(*shape, generator=self._generator)
        return values

    def put(self, name: str, tensor: Tensor, dtype: torch.dtype = torch.bfloat16) -> None:
        """Store a tensor under its full name."""
        self.tensors[name] = tensor.to(dtype).contiguous()

    def matrix(self, module: str, rows: int, columns: int, gain: float = 1, store: Format = "bf16") -> None:
        """`module.weight` [rows, columns]: outputs are `gain` times as large as inputs, about."""
        self.store(module, self.normal(rows, columns) * (gain / math.sqrt(columns)), store)

    def store(self, module: str, weight: Tensor, store: Format) -> None:
        """`module.weight` float32 in a format."""
        self.formats[module] = store
        if store == "bf16":
            self.put(f"{module}.weight", weight)
        else:
            self._weights[module] = weight

    def experts(self, count: int, rows: int, columns: int) -> Tensor:
        """[count, rows, columns], most of it alike: float32, not stored.

        Rounding sometimes makes a router choose another expert. That must change no answer by much.
        """
        alike, own = self.normal(1, rows, columns), self.normal(count, rows, columns)
        return (alike + 0.1 * own) / math.sqrt(columns)

    def embedding(self, hidden: int) -> Tensor:
        """[VOCABULARY, hidden], of the size of one: float32, not stored."""
        return self.normal(VOCABULARY, hidden)

    def output(self, embedding: Tensor, successor: float = _SUCCESSOR) -> Tensor:
        """The head's rows [VOCABULARY, hidden] for an embedding of that shape: float32, not stored."""
        rows, hidden = embedding.shape
        return (self.normal(rows, hidden) + successor * embedding[predecessor()]) * (4 / math.sqrt(hidden))

    def write(self, directory: Path, config: Mapping[str, Any], **others: Mapping[str, Any]) -> Path:
        """Write the weights, config.json, the tokenizer of the demo, and other JSON files by their stems."""
        self._quantize()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.safetensors").write_bytes(save(self.tensors, metadata={"format": "pt"}))
        for stem, data in {"config": config, **others}.items():
            write_json(directory / f"{stem}.json", data)
        for name in _TOKENIZER:
            (directory / name).write_bytes((CHECKPOINT / name).read_bytes())
        return directory

    def _quantize(self) -> None:
        nvfp4 = {
            module: weight
            for module, weight in self._weights.items()
            if self.formats[module].startswith("nvfp4")
        }
        largest = shared_amax({module: weight.abs().amax() for module, weight in nvfp4.items()})
        for module, weight in self._weights.items():
            if module in nvfp4:
                packed = quantize(weight, global_scale(largest[module]))
                self.tensors[f"{module}.weight"] = packed.weight
                self.tensors[f"{module}.weight_scale"] = packed.weight_scale
                self.tensors[f"{module}.weight_scale_2"] = packed.weight_scale_2.clone()
                if self.formats[module] == "nvfp4":
                    self.tensors[f"{module}.input_scale"] = global_scale(torch.tensor(_INPUT_AMAX))
            else:
                scale = weight.abs().amax() / _FP8_MAX
                self.put(f"{module}.weight", weight / scale, torch.float8_e4m3fn)
                self.put(f"{module}.weight_scale", scale, torch.float32)
                self.put(f"{module}.input_scale", torch.tensor(_INPUT_AMAX / _FP8_MAX), torch.float32)


def predecessor() -> Tensor:
    """[VOCABULARY]: the token before each one, in an order of all tokens that visits each once."""
    order = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(7))
    before = torch.empty_like(order)
    before[order] = order.roll(1)
    return before
