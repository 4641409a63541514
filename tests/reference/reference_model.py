"""The dequantized checkpoint in transformers, in float32."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

from helpers.checkpoint_reader import read_weights


def _stack_experts(weights: dict[str, np.ndarray], layers: int, experts: int) -> dict[str, np.ndarray]:
    """transformers' layout: the experts of a layer in one tensor, gate rows above up rows."""
    out = {name: weight for name, weight in weights.items() if ".experts." not in name}
    for layer in range(layers):
        prefix = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (
            np.stack([weights[f"{prefix}.{expert}.{leaf}_proj.weight"] for expert in range(experts)])
            for leaf in ("gate", "up", "down")
        )
        out[f"{prefix}.gate_up_proj"] = np.concatenate((gate, up), axis=1)
        out[f"{prefix}.down_proj"] = down
    return out


class Reference:
    """A float32 model built from a checkpoint's tensors."""

    def __init__(self, directory: Path, tensors: dict[str, np.ndarray]) -> None:
        settings = json.loads((directory / "config.json").read_text())
        settings.pop("quantization_config")
        settings["dtype"] = "float32"
        config = Qwen3NextConfig(**settings)
        config._attn_implementation = "eager"
        self.model = Qwen3NextForCausalLM(config).eval()
        weights = _stack_experts(read_weights(tensors), config.num_hidden_layers, config.num_experts)
        state = {name: torch.from_numpy(w) for name, w in weights.items() if not name.startswith("mtp.")}
        self.model.load_state_dict(state, strict=True)
        assert {p.dtype for p in self.model.parameters()} == {torch.float32}

    @torch.no_grad()
    def log_probabilities(self, ids: list[int]) -> np.ndarray:
        """float32 [length - 1]: of each token from the second on, in nats, given those before it."""
        logits = self.model(input_ids=torch.tensor([ids])).logits[0, :-1]
        chosen = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])
        return chosen[:, 0].numpy()

    @torch.no_grad()
    def continue_greedily(self, ids: list[int], count: int, stop: set[int]) -> list[int]:
        """Up to `count` further tokens, recomputed from the start each time; a stop token is left out."""
        out: list[int] = []
        while len(out) < count:
            token = int(self.model(input_ids=torch.tensor([ids + out])).logits[0, -1].argmax())
            if token in stop:
                break
            out.append(token)
        return out
