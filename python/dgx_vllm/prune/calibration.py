"""Calibration: what reached each block of experts, as a safetensors file.

For every block of experts one tensor, named by the block from `layers.` on, such as `layers.3.mlp.experts`:

    [tokens, hidden]   the inputs of so many tokens, any float dtype; or
    [hidden]           each channel's root mean square
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dgx_vllm.util.errors import UserError


def key(block: str) -> str:
    """A block's name in the file, whatever root the checkpoint or vLLM gives it."""
    begin = block.rfind("layers.")
    draft = "mtp." if block.startswith("mtp.") or ".mtp." in block else ""
    return draft + block[begin:] if begin >= 0 else block


class Calibration:
    """A calibration file.

    Args:
        path: the file.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self._names = set(file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{path} is not a calibration file ({error}); make one with `dgx-vllm calibrate`"
            ) from error

    def __contains__(self, block: str) -> bool:
        return key(block) in self._names

    def of(self, block: str, hidden: int) -> torch.Tensor:
        """float32 [tokens, hidden] or [hidden].

        Raises:
            UserError: the block is missing, or its tensor is of another shape or not finite.
        """
        name = key(block)
        if block not in self:
            raise UserError(
                f"{self.path} has no {name}; make it from this checkpoint, with `dgx-vllm calibrate`"
            )
        with safe_open(self.path, framework="pt") as file:
            inputs: torch.Tensor = file.get_tensor(name).float()
        if inputs.dim() not in (1, 2) or inputs.shape[-1] != hidden or not inputs.numel():
            raise UserError(
                f"{self.path}: {name} is {list(inputs.shape)}, where [{hidden}] or [tokens, {hidden}] "
                "belongs; make it from this checkpoint, with `dgx-vllm calibrate`"
            )
        if not torch.isfinite(inputs).all():
            raise UserError(f"{self.path}: {name} holds NaN or infinities; make it again")
        return inputs
